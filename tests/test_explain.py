"""`python -m lora_theory.explain`: checkpoints of orbax and safetensors, and one line of error."""

import json
import runpy
import struct
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

import lora_theory
from lora_theory.adapters.explain import explain

TREE = {
    "q": {"lora_a": jnp.ones((8, 2)), "lora_b": jnp.zeros((2, 5))},
    "norm": {"scale": jnp.ones(8)},
}
SAFE = {
    "model.q_proj.lora_A.weight": ("F32", [2, 8]),
    "model.q_proj.lora_B.weight": ("BF16", [5, 2]),
    "model.q_proj.lora_B.bias": ("F16", [5]),
}


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["explain", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(lora_theory.__path__[0]) + "/explain.py", run_name="__main__")
    return ended.value.code, capsys.readouterr()


def safetensors(path, entries=SAFE):
    header = {"__metadata__": {"format": "pt"}}
    header |= {
        name: {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]}
        for name, (dtype, shape) in entries.items()
    }
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path


def saved(folder, kind):
    saver = ocp.StandardCheckpointer()
    if kind == "manager":
        with ocp.CheckpointManager(folder) as manager:
            for step in (9, 10):
                manager.save(step, args=ocp.args.StandardSave(TREE))
    else:
        tree = (
            TREE
            if kind == "plain"
            else nnx.state(nnx.LoRALinear(8, 5, lora_rank=2, rngs=nnx.Rngs(0)), nnx.LoRAParam)
        )
        saver.save(folder, tree)
        saver.wait_until_finished()
    return folder


@pytest.mark.filterwarnings("ignore")  # Orbax's own.
@pytest.mark.parametrize("kind", ["plain", "nnx", "manager"])
def test_checkpoints_of_orbax(kind, tmp_path, monkeypatch, capsys):
    code, printed = run(monkeypatch, capsys, saved(tmp_path / "saved", kind), "--eta-a", "1e-3")
    assert code == 0
    rows = [line.split() for line in printed.out.splitlines()]
    factors = {row[0][-6:]: row[1:3] + row[-4:-3] for row in rows if "lora_" in row[0]}
    assert factors == {"lora_a": ["8×2", "A", "0.001"], "lora_b": ["2×5", "B", "0.016"]}


@pytest.mark.parametrize("folder", [False, True])
def test_safetensors(folder, tmp_path, monkeypatch, capsys):
    path = safetensors(tmp_path / "adapter_model.safetensors")
    code, printed = run(monkeypatch, capsys, path.parent if folder else path, "--ratio", "4")
    assert code == 0
    assert "leaves: A 1, no_decay 1, B 1" in printed.out
    assert "reads n = 8" in printed.out


def test_a_choice_of_leaves(tmp_path, monkeypatch, capsys):
    path = safetensors(tmp_path / "a.safetensors", SAFE | {"embed": ("I8", [3, 3])})
    assert "none 1" in run(monkeypatch, capsys, path)[1].out
    code, printed = run(monkeypatch, capsys, path, "--match", "*lora_A*", "--eta-b", "3")
    assert code == 0
    assert "leaves: A 1" in printed.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "checkpoint: must exist (got nowhere)"),
        ([__file__], "checkpoint: must be a safetensors file"),
        (["."], "checkpoint: must be an orbax checkpoint, or hold one"),
        (["{safe}", "--ratio", "-1"], "ratio: must be a finite number of at least 0 (got -1.0)"),
        (["{safe}", "--ratio", "2", "--eta-b", "1"], "eta_b, ratio: must be one of the two"),
        (["{safe}", "--labels", "lorx"], "labels: must be one of"),
        (["{safe}", "--match", "x"], "match: must match a leaf, as *lora* (got 'x')"),
    ],
)
def test_errors_are_one_line_and_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "safe").mkdir()
    safe = safetensors(tmp_path / "safe" / "a.safetensors")
    code, printed = run(monkeypatch, capsys, *(text.format(safe=safe) for text in arguments))
    assert code == 2
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not printed.out


@pytest.mark.parametrize(
    "header", [b"", b"\x01", struct.pack("<Q", 2**60), struct.pack("<Q", 2) + b"[]"]
)
def test_a_damaged_header_is_refused(header, tmp_path, monkeypatch, capsys):
    path = tmp_path / "a.safetensors"
    path.write_bytes(header)
    code, printed = run(monkeypatch, capsys, path)
    assert code == 2
    assert "checkpoint: must be a safetensors file" in printed.err


def test_help_starts_no_jax_and_the_module_is_the_function(environment):
    probe = (
        "import sys, runpy\n"
        "sys.argv = ['explain', '--help']\n"
        "try: runpy.run_module('lora_theory.explain', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert not {'jax', 'flax', 'orbax'} & set(sys.modules), 'started'\n"
        "import lora_theory.explain\n"
        "from lora_theory.adapters.explain import explain\n"
        "assert lora_theory.explain is explain\n"
        "from lora_theory.explain import explain as other\n"
        "import importlib.util\n"
        "assert other is explain and importlib.util.find_spec('lora_theory.explain')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=True
    )
    assert "--eta-a" in done.stdout


def test_the_public_name():
    assert lora_theory.explain is explain
    np.testing.assert_equal(len(explain(TREE, 0.1, ratio=2.0).rows), 3)


@pytest.mark.filterwarnings("ignore")  # Orbax's own.
def test_the_newest_whole_step_of_any_name(tmp_path, monkeypatch, capsys):
    options = ocp.CheckpointManagerOptions(step_prefix="step")
    with ocp.CheckpointManager(tmp_path / "runs", options=options) as manager:
        manager.save(1, args=ocp.args.StandardSave(TREE))
    (tmp_path / "runs/step_7").mkdir()  # Interrupted.
    (tmp_path / "runs/²").mkdir()
    code, printed = run(monkeypatch, capsys, tmp_path / "runs")
    assert code == 0
    assert "leaves: no_decay 1, A 1, B 1" in printed.out


@pytest.mark.filterwarnings("ignore")  # Orbax's own.
@pytest.mark.parametrize("text", ["{}", "[]", '{"x":', ""])
def test_damaged_metadata_is_refused(text, tmp_path, monkeypatch, capsys):
    (tmp_path / "_METADATA").write_text(text)
    code, printed = run(monkeypatch, capsys, tmp_path)
    assert code == 2
    assert printed.err.startswith("error: checkpoint: must ")
    assert printed.err.count("\n") == 1


def test_tensors_without_entries_and_leaves_that_come_twice(tmp_path, monkeypatch, capsys):
    empty = {name: ("F32", [0, 8]) for name in ("lora_A.weight", "lora_B.weight")}
    path = safetensors(tmp_path / "a.safetensors", empty)
    assert run(monkeypatch, capsys, path)[0] == 0
    safetensors(tmp_path / "b.safetensors", empty)
    code, printed = run(monkeypatch, capsys, tmp_path)
    assert code == 2
    assert "must have each leaf once (got lora_A.weight in" in printed.err
    assert run(monkeypatch, capsys, safetensors(tmp_path / "c.safetensors", {}))[0] == 2


def test_few_letters_and_a_reader_that_leaves(tmp_path, environment):
    path = safetensors(tmp_path / "a.safetensors")
    command = [sys.executable, "-m", "lora_theory.explain", str(path)]
    plain = environment | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=plain, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"2\xd78" in done.stdout
    left = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$@" | true', "-", *command], env=environment,
        capture_output=True, text=True,
    )  # fmt: skip
    assert (left.returncode, left.stderr) == (0, "")


@pytest.mark.filterwarnings("ignore")  # Orbax's own.
def test_a_step_of_several_items_names_them(tmp_path, monkeypatch, capsys):
    with ocp.CheckpointManager(tmp_path / "runs") as manager:
        args = {name: ocp.args.StandardSave(TREE) for name in ("params", "state")}
        manager.save(3, args=ocp.args.Composite(**args))
    code, printed = run(monkeypatch, capsys, tmp_path / "runs")
    assert code == 2
    assert f"as one of {tmp_path}/runs/3/params, {tmp_path}/runs/3/state" in printed.err
    assert run(monkeypatch, capsys, tmp_path / "runs/3/params")[0] == 0
