"""What is read off a CUDA device, on a simulated one: every branch runs without a GPU."""

import pytest
import torch
from fake_cuda import FakeCuda, names_of

from ptmetrics.bench import probes
from ptmetrics.bench.probes import CudaProbes, Probes, probes_of, profiled_names


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


def test_events_time_the_device_and_not_the_host(cuda: FakeCuda) -> None:
    cuda.work(500)  # what was asked before is not in it
    assert CudaProbes(cuda).clock(lambda: cuda.work(2), 3) == pytest.approx(0.006)
    assert cuda.asked == ["synchronize", "event.synchronize"]


def test_issuing_starts_with_an_empty_queue_and_does_not_wait_in_between(cuda: FakeCuda) -> None:
    seen: list[int] = []
    CudaProbes(cuda).issue(lambda: seen.append(len(cuda.asked)), 2)
    assert seen == [1, 1]
    assert cuda.asked == ["synchronize", "synchronize"]


def test_launches_are_kernels_copies_and_fills_of_the_profile(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    def launched(*names: str) -> int | None:
        monkeypatch.setattr(probes, "profiled_names", names_of(*names))
        return CudaProbes(cuda).launches(lambda: None)

    kernels = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel")
    copies = ("cudaMemcpyAsync", "cudaMemsetAsync")
    others = ("aten::add", "cudaDeviceSynchronize", "cudaStreamIsCapturing", "void kernel")
    assert launched(*kernels, *copies, *others) == 5
    assert launched("cudaDeviceSynchronize") == 0
    assert launched("aten::add", "cumsum") is None, "a profiler that sees no CUDA has not measured"


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_the_profiler_of_torch_gives_the_names_of_its_events(cuda: FakeCuda) -> None:
    names = list(profiled_names(lambda: torch.ones(2) + 1, cuda))
    assert "aten::add" in names
    assert cuda.asked == ["synchronize"], "the queue is empty before the profile ends"


def test_waits_are_the_warnings_of_the_sync_debug_mode_which_is_put_back(cuda: FakeCuda) -> None:
    cuda.mode = 2
    assert (
        CudaProbes(cuda).waits(lambda: [cuda.work(waits=True), cuda.work(), cuda.work(waits=True)])
        == 2
    )
    assert cuda.mode == 2
    with pytest.raises(ZeroDivisionError):
        CudaProbes(cuda).waits(lambda: 1 // 0)
    assert cuda.mode == 2


def test_the_words_of_the_warning_are_those_in_torch() -> None:
    found = [p for p in (torch.__path__[0] + "/lib/libc10_cuda.so",) if torch.version.cuda]
    if not found:
        pytest.skip("torch without CUDA")
    with open(found[0], "rb") as file:  # noqa: PTH123
        assert probes.WAITING.encode() in file.read()


def test_peak_memory_is_what_the_call_needs_over_what_is_there(cuda: FakeCuda) -> None:
    cuda.work(needed=10**6)
    assert CudaProbes(cuda).peak_bytes(lambda: cuda.work(needed=300)) == 300
    assert CudaProbes(cuda).peak_bytes(lambda: None) == 0


def test_a_graph_is_captured_after_a_warm_up_and_replays_the_call(cuda: FakeCuda) -> None:
    replay = CudaProbes(cuda).capture(lambda: cuda.work(2))
    assert cuda.queue_ms == 8, "three times to warm up, once to capture"
    replay()
    assert cuda.queue_ms == 10


def test_a_call_that_waits_cannot_be_captured(cuda: FakeCuda) -> None:
    with pytest.raises(RuntimeError, match="stream is capturing"):
        CudaProbes(cuda).capture(lambda: cuda.work(waits=True))
    assert cuda.graphed is None


def test_on_a_cpu_nothing_of_cuda_is_measured() -> None:
    probe = probes_of("cpu")
    assert type(probe) is Probes
    assert [probe.launches(list), probe.waits(list), probe.peak_bytes(list)] == [None] * 3
    assert not probe.has_graphs
    assert probe.clock(list, 3) >= 0
