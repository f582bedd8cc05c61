"""Inputs, timing and checks that every peer shares: the same warm-up, cache flush, batching and median as rpo-bench."""
import ctypes
import gc
import re
import statistics
import time

WARM_SECONDS, SHORT_SECONDS, BATCH_SECONDS = 0.05, 1e-4, 1e-3


def resident(field):
    """Bytes of a field of /proc/self/status."""
    with open("/proc/self/status") as status:
        return int(re.search(rf"^{field}:\s+(\d+)", status.read(), re.M).group(1)) * 1024


class Device:
    """Clock, caches and memory of the device the peers run on."""

    def __init__(self, torch, cpu=False):
        self.torch = torch
        self.cuda = torch.cuda.is_available() and not cpu
        self.name = "cuda" if self.cuda else "cpu"
        if self.cuda:
            properties = torch.cuda.get_device_properties(0)
            self.title = properties.name
            flush = 2 * getattr(properties, "L2_cache_size", 64 << 20)
        else:
            self.title = f"CPU, {torch.get_num_threads()} threads"
            flush = 64 << 20
        self._flush = torch.empty(max(flush, 64 << 20), dtype=torch.uint8, device=self.name)
        self.flush(0)

    def flush(self, value):
        self._flush.fill_(value % 251)

    def seconds(self, work, count=1):
        """Device time of one of `count` runs."""
        if not self.cuda:
            start = time.perf_counter()
            for _ in range(count):
                work()
            return (time.perf_counter() - start) / count
        begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(count):
            work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * 1e-3 / count

    def reset_peak(self):
        gc.collect()
        if self.cuda:
            self.torch.cuda.synchronize()
            self.torch.cuda.empty_cache()
            self.torch.cuda.reset_peak_memory_stats()
            return self.torch.cuda.memory_allocated()
        ctypes.CDLL(None).malloc_trim(0)  # what the allocator merely keeps is not in use
        with open("/proc/self/clear_refs", "w") as refs:
            refs.write("5")
        return resident("VmRSS")

    def peak(self):
        return self.torch.cuda.max_memory_allocated() if self.cuda else resident("VmHWM")


def measure(device, work, kept_bytes, repeats):
    """Runs work() until it is warm, then `repeats` times; memory is that beyond inputs and the `kept_bytes` it leaves."""
    work()
    best, total = float("inf"), 0.0
    for run in range(20):
        if run > 0 and total >= WARM_SECONDS:
            break
        seconds = device.seconds(work)
        best, total = min(best, seconds), total + seconds
    batch = 1 if best >= SHORT_SECONDS else min(1000, int(BATCH_SECONDS / max(best, 1e-9)) + 1)
    before = device.reset_peak()
    times = []
    for run in range(repeats):
        device.flush(run)
        times.append(device.seconds(work, batch))
    extra = device.peak() - before - kept_bytes
    return {"median_seconds": statistics.median(times), "min_seconds": min(times), "max_seconds": max(times),
            "batch": batch, "repeats": repeats, "extra_resident_bytes": max(extra, 0)}


def largest_error(torch, found, expected):
    """The largest difference over the largest expected value; NaN stays NaN."""
    found, expected = found.detach(), expected.detach()
    scale = expected.abs().max().clamp(min=1e-30)
    return float(((found.double() - expected.double()).abs() / scale).max())
