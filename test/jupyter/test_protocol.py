"""What every front end needs and jupyter_kernel_test leaves out, through jupyter_client."""

import time

import pytest
import zmq
from jupyter_client.manager import start_new_kernel

NAME = "typescript-peftlab"
BUSY = "{ const t = Date.now(); while (Date.now() - t < 3000) {} }"


@pytest.fixture
def kernel():
    km, kc = start_new_kernel(kernel_name=NAME, startup_timeout=30)
    yield km, kc
    kc.stop_channels()
    km.shutdown_kernel(now=True)


def reply_to(get, msg_id, timeout=20):
    while True:
        message = get(timeout=timeout)
        if message["parent_header"].get("msg_id") == msg_id:
            return message


def run(kc, code, **options):
    msg_id = kc.execute(code, **options)
    outputs = []
    while True:
        message = kc.get_iopub_msg(timeout=20)
        if message["parent_header"].get("msg_id") != msg_id:
            continue
        outputs.append(message)
        if message["content"].get("execution_state") == "idle":
            return reply_to(kc.get_shell_msg, msg_id), outputs


def text_of(outputs):
    return "".join(m["content"].get("text", "") for m in outputs if m["msg_type"] == "stream")


def test_a_cell_is_announced_and_counted(kernel):
    _, kc = kernel
    first, outputs = run(kc, "1")
    second, _ = run(kc, "2")
    assert "execute_input" in [m["msg_type"] for m in outputs]
    assert second["content"]["execution_count"] == first["content"]["execution_count"] + 1


def test_a_silent_cell_shows_and_counts_nothing(kernel):
    _, kc = kernel
    first, _ = run(kc, "1")
    _, outputs = run(kc, "2", silent=True, store_history=False)
    third, _ = run(kc, "3")
    assert [m["msg_type"] for m in outputs if m["msg_type"] != "status"] == []
    assert third["content"]["execution_count"] == first["content"]["execution_count"] + 1


def test_an_error_names_itself_in_reply_and_output(kernel):
    _, kc = kernel
    reply, outputs = run(kc, "throw new TypeError('x')")
    errors = [m for m in outputs if m["msg_type"] == "error"]
    assert reply["content"]["status"] == "error" and len(errors) == 1
    for content in (reply["content"], errors[0]["content"]):
        assert content["ename"] == "TypeError" and content["evalue"] == "x" and content["traceback"]


def test_an_error_aborts_what_waits(kernel):
    _, kc = kernel
    ids = [kc.execute(code) for code in ("throw new Error('x')", "1", "2")]
    found = [reply_to(kc.get_shell_msg, i)["content"]["status"] for i in ids]
    assert found == ["error", "aborted", "aborted"]
    reply, _ = run(kc, "1")
    assert reply["content"]["status"] == "ok"


def test_user_expressions_see_the_cells_names(kernel):
    _, kc = kernel
    reply, _ = run(kc, "var a = 41", user_expressions={"x": "a + 1"})
    assert reply["content"]["user_expressions"]["x"]["data"]["text/plain"] == "42"


def test_control_and_heartbeat_answer_while_a_cell_loops(kernel):
    km, kc = kernel
    msg_id = kc.execute(BUSY)
    time.sleep(0.5)
    request = kc.session.msg("kernel_info_request", {})
    kc.control_channel.send(request)
    reply = reply_to(kc.get_control_msg, request["header"]["msg_id"], timeout=2)
    assert reply["msg_type"] == "kernel_info_reply"
    socket = zmq.Context.instance().socket(zmq.REQ)
    socket.linger = 0
    socket.connect(f"tcp://{km.ip}:{km.hb_port}")
    socket.send(b"ping")
    assert socket.poll(2000)
    socket.close()
    reply_to(kc.get_shell_msg, msg_id)


@pytest.mark.parametrize(
    "code", ["while (true) {}", "await new Promise(r => setTimeout(r, 60000))", "/(a+)+$/.test('a'.repeat(40) + 'b')"]
)
def test_an_interrupt_ends_the_cell_and_keeps_its_names(kernel, code):
    km, kc = kernel
    run(kc, "let keep = 7")
    msg_id = kc.execute(code)
    time.sleep(0.5)
    km.interrupt_kernel()
    assert reply_to(kc.get_shell_msg, msg_id)["content"]["status"] == "error"
    _, outputs = run(kc, "console.log(keep)")
    assert text_of(outputs) == "7\n"
