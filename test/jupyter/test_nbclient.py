"""Notebooks run by nbclient and papermill as any notebook is."""

import nbformat
import papermill
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NAME = "typescript-peftlab"


def notebook(*cells):
    nb = nbformat.v4.new_notebook()
    nb.metadata.kernelspec = {"name": NAME, "display_name": "TypeScript", "language": "typescript"}
    nb.cells = [nbformat.v4.new_code_cell(code) for code in cells]
    return nb


def execute(*cells, **options):
    nb = notebook(*cells)
    NotebookClient(nb, timeout=60, kernel_name=NAME, **options).execute()
    return nb


def stream(cell, name="stdout"):
    return "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == name)


def test_twenty_thousand_lines_arrive_whole():
    nb = execute("for (let i = 0; i < 20000; i++) console.log('line ' + i)")
    assert stream(nb.cells[0]).splitlines() == [f"line {i}" for i in range(20000)]


def test_a_string_of_ten_megabytes_arrives_whole():
    nb = execute("console.log('x'.repeat(10_000_000))")
    assert stream(nb.cells[0]) == "x" * 10_000_000 + "\n"


def test_stdout_and_stderr_keep_their_order():
    nb = execute("console.log('a'); console.error('b'); console.log('c')")
    outputs = [(o.name, o.text) for o in nb.cells[0].outputs]
    assert outputs == [("stdout", "a\n"), ("stderr", "b\n"), ("stdout", "c\n")]


def test_importing_tensorflow_writes_nothing_to_stderr():
    nb = execute(
        "import * as tf from '@tensorflow/tfjs';\nimport { setBackend } from 'peftlab';\n"
        "await setBackend('cpu');\nconsole.log(tf.tensor([1, 2]).sum().dataSync()[0])"
    )
    assert stream(nb.cells[0]) == "3\n"
    assert stream(nb.cells[0], "stderr") == ""


def test_an_error_stops_the_notebook_and_names_the_line():
    with pytest.raises(CellExecutionError, match=r"In\[2\]:2:7"):
        execute("const a = 1", "interface A { x: number }\nthrow new RangeError('too far')")


def test_papermill_runs_a_notebook(tmp_path):
    source, target = tmp_path / "in.ipynb", tmp_path / "out.ipynb"
    nbformat.write(notebook("const x: number = 20 + 22", "x"), source)
    papermill.execute_notebook(str(source), str(target), kernel_name=NAME, progress_bar=False)
    done = nbformat.read(target, as_version=4)
    assert done.cells[1].outputs[0].data["text/plain"] == "42"
