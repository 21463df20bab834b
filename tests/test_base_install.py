"""The base install has no torch, and still defines tools, plays worlds, and runs scripted and endpoint policies."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PROGRAM = '''
import importlib.util, json, subprocess, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

assert importlib.util.find_spec("torch") is None, "this environment has torch"

from ferrule.agents.react import ToolLoop
from ferrule.evaluate.evaluate import evaluate
from ferrule.core.records import Call, Message
from ferrule.policies.endpoint.endpoint import Endpoint
from ferrule.policies.scripted import Scripted
from ferrule.tools.tool import tool
from ferrule.worlds.apis import Apis
from ferrule.worlds.arithmetic import Arithmetic
from ferrule.worlds.facts import Facts

@tool
def double(x: int) -> int:
    """Twice x."""
    return 2 * x

def script(ask, sample):
    if ask.messages[-1].role == "tool":
        return ask.messages[-1].content
    return Message("assistant", "", (Call("python", {"code": "print(6 * 7)"}, id="call_0"),))

for world in (Arithmetic(), Apis(), Facts()):
    found = evaluate(ToolLoop(), Scripted(script), world, world.tasks("test", 5))
    assert len(found.rows) == 5
    if world.name == "arithmetic":
        assert all(row.answer == "42" for row in found.rows), found.rows

class Model(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        choice = {"index": 0, "message": {"role": "assistant", "content": "42"}, "finish_reason": "stop"}
        body = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
threading.Thread(target=server.serve_forever, daemon=True).start()
world = Arithmetic()
found = evaluate(ToolLoop(), Endpoint(f"http://127.0.0.1:{server.server_port}/v1"), world, world.tasks("test", 2))
assert [row.answer for row in found.rows] == ["42", "42"], found.rows
server.shutdown()

asked = subprocess.run([sys.executable, "-m", "ferrule", "train", "--max-steps", "1"], capture_output=True, text=True)
assert asked.returncode == 2 and 'pip install "ferrule[train]"' in asked.stderr, asked.stderr
import ferrule as fe
from pathlib import Path
from ferrule.studies.stored import stored

assert fe.world("apis").name == "apis" and fe.ToolLoop() == ToolLoop()
assert Path(fe.__file__).with_suffix(".pyi").is_file(), "type checkers find no stub"
assert stored("otc")["verdict"] and stored("nothing") is None, "the claims are not shipped"
print("base install works")
'''


@pytest.mark.slow
def test_base_install_works_without_torch(tmp_path: Path) -> None:
    venv.create(tmp_path / "env")
    python = str(tmp_path / "env" / "bin" / "python")
    pip = [sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-compile"]
    subprocess.run([*pip, "--requirement", str(ROOT / "requirements" / "base.txt")], check=True)

    subprocess.run([*pip, "--no-deps", str(ROOT)], check=True)
    found = subprocess.run([python, "-c", PROGRAM], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert found.returncode == 0, found.stderr
    assert "base install works" in found.stdout


def test_help_loads_neither_torch_nor_numpy() -> None:
    code = (
        "import sys\nfrom ferrule.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'numpy', 'pydantic', 'httpx') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip().endswith("[]")
