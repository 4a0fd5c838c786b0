"""The kernel under jupyter_kernel_test, each test with a fresh kernel, and iopub_welcome."""

import jupyter_kernel_test as jkt

NAME = "typescript-peftlab"


class TestTypeScript(jkt.KernelTests):
    kernel_name = NAME
    language_name = "typescript"
    file_extension = ".ts"
    code_hello_world = "console.log('hello, world')"
    code_stderr = "console.error('oops')"
    code_generate_error = "throw new Error('boom')"
    code_inspect_sample = "parseInt"
    code_page_something = "?parseInt"
    code_clear_output = "clearOutput()"
    code_history_pattern = "1?2*"
    supported_history_operations = ("tail", "range", "search")
    completion_samples = [
        {"text": "consol", "matches": {"console"}},
        {"text": "Math.flo", "matches": {"floor"}},
        {"text": "'abc'.toUpp", "matches": {"toUpperCase"}},
    ]
    complete_code_samples = [
        "",
        "1",
        "// a comment",
        "let a: number = 1",
        "await Promise.resolve(1)",
        "interface P { a: number; b?: string }",
        "class A<T> { constructor(public x: T) {} }",
        "type U = 'a' | 'b'",
        "for (const x of [1, 2]) { x }",
        "`a ${1 + 1} b`",
    ]
    incomplete_code_samples = [
        "function f(x: number) {",
        "const a = [1, 2,",
        "if (true) {",
        "`a template",
        "/* open comment",
        "(1 +",
        "class A { m() {",
    ]
    invalid_code_samples = ["let 1a = 2", "function (", "}{", "const x = = 2", "'unterminated", "a b c"]
    code_execute_result = [
        {"code": "1 + 2 + 3", "result": "6"},
        {"code": "[1, 2, 3].map(x => x * x)", "result": "[ 1, 4, 9 ]"},
        {"code": "6 * 7", "result": "42"},
        {"code": "({a: 1, b: 'x'})", "result": "{ a: 1, b: 'x' }"},
    ]
    code_display_data = [
        {"code": "display.html('<b>x</b>')", "mime": "text/html"},
        {"code": "display({'image/png': 'iVBORw0KGgo='}, {raw: true})", "mime": "image/png"},
        {
            "code": "import * as tslab from 'tslab'; tslab.display.markdown('*x*')",
            "mime": "text/markdown",
        },
    ]

    @classmethod
    def setUpClass(cls):
        pass

    @classmethod
    def tearDownClass(cls):
        pass

    def setUp(self):
        self.km, self.kc = jkt.start_new_kernel(kernel_name=NAME, startup_timeout=30)
        self.addCleanup(self.stop)

    def stop(self):
        self.kc.stop_channels()
        self.km.shutdown_kernel(now=True)


class TestWelcome(jkt.IopubWelcomeTests):
    kernel_name = NAME
    support_iopub_welcome = True



