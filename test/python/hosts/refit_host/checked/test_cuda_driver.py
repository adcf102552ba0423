"""CUDA's driver, with a library that notes what it is asked."""

import ctypes

import pytest
from refit_host.checked import cuda_driver
from refit_host.checked.cuda_driver import Driver, DriverError


class Library:
    """Answers `codes` by name, 0 otherwise; it has no other function than these."""

    def __init__(self, **codes):
        self.codes = codes

    def __getattr__(self, name):
        if name not in self.codes:
            raise AttributeError(name)
        return lambda *arguments: self.answer(name, arguments)

    def answer(self, name, arguments):
        if name == "cuGetErrorName":
            arguments[1]._obj.value = b"CUDA_ERROR_NOT_SUPPORTED"
        if name == "cuDeviceGet":
            arguments[0]._obj.value = 100 + arguments[1].value
        if name == "cuDeviceGetUuid_v2":
            arguments[0][:] = [arguments[1].value] * 16
        return self.codes[name]


def driver_of(monkeypatch, **codes) -> Driver:
    monkeypatch.setattr(cuda_driver.ctypes, "CDLL", lambda name: Library(**codes))
    return Driver()


def test_a_device_is_told_by_its_uuid(monkeypatch):
    driver = driver_of(monkeypatch, cuDeviceGet=0, cuDeviceGetUuid_v2=0)
    assert driver.uuid(3) == "67" * 16


def test_a_refused_call_tells_the_driver_s_own_name_of_the_reason(monkeypatch):
    driver = driver_of(monkeypatch, cuIpcGetMemHandle=801, cuGetErrorName=0)
    with pytest.raises(DriverError, match=r"answers cuIpcGetMemHandle with CUDA_ERROR_NOT_SUPPORTED \(801\)"):
        driver.call("cuIpcGetMemHandle", ctypes.c_uint64(1))


def test_a_driver_without_the_function_is_a_driver_that_refuses(monkeypatch):
    with pytest.raises(DriverError, match="the driver has no cuIpcOpenMemHandle_v2"):
        driver_of(monkeypatch).call("cuIpcOpenMemHandle_v2")


def test_a_computer_without_a_driver_says_so(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(cuda_driver.ctypes, "CDLL", missing)
    with pytest.raises(DriverError, match="driver is not found"):
        Driver()
