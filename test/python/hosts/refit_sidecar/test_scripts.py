"""Every script, on small random models: it runs, an engine serves it, and pictures follow the LoRAs."""

import json
import threading
import urllib.error
import urllib.request

import torch
from refit_sidecar.scripts import compare, flux_quantised, sdxl_two_loras, server, training_loop


def _different(pictures):
    flat = [torch.as_tensor(picture).float() for picture in pictures]
    return all(not torch.equal(one, other) for one, other in zip(flat, flat[1:]))


def test_sdxl_with_two_loras(capsys):
    assert _different(sdxl_two_loras.main(["--tiny"]))
    assert capsys.readouterr().out.count("served by the engine") == 3


def test_flux_as_codes(capsys):
    assert _different(flux_quantised.main(["--tiny"]))
    assert "served by the engine" in capsys.readouterr().out


def test_variants_compared(capsys):
    first, second, third = compare.main(["--tiny"])
    assert not torch.equal(first, second) and torch.equal(first, third)
    assert "A is back, bit for bit" in capsys.readouterr().out


def test_pictures_in_a_training_loop(capsys):
    assert _different(training_loop.main(["--tiny"]))
    out = capsys.readouterr().out
    assert out.count("trained by the original, picture by the engine") == 3


def test_a_server_with_loras_per_request():
    running = server.serve(["--tiny"])
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()

    def ask(body):
        request = urllib.request.Request(f"http://127.0.0.1:{running.server_port}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.read(), answer.headers["x-served-by"]

    try:
        plain, by = ask({"prompt": "x"})
        with_a, _ = ask({"prompt": "x", "loras": {"a": 0.8}})
        again, _ = ask({"prompt": "x"})
        assert by == "engine" and plain == again and plain != with_a
        try:
            ask({"loras": {"missing": 1}})
            raise AssertionError("expected a refusal")
        except urllib.error.HTTPError as error:
            assert error.code == 400 and b"the module has no adapter missing" in error.read()
    finally:
        running.shutdown()
        running.server_close()
