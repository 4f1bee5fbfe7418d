import logging
import os
import signal
import threading
import time

import pytest
from references import hostile_files as hostile

from acfnet_core.cohort.guarded.limits import ReaderLimits
from acfnet_core.cohort.guarded.reader import ReaderFailure, read_each, read_one
from acfnet_core.cohort.images.refusals import GATE_CODES, ScanRefusedError
from acfnet_core.errors import MachineError

LIMITS = ReaderLimits(memory_bytes=300 * 1024**2, cpu_s=30, wall_s=60, num_items=50)
SHORT = ReaderLimits(memory_bytes=300 * 1024**2, cpu_s=0, wall_s=60, num_items=50)
HASTY = ReaderLimits(memory_bytes=300 * 1024**2, cpu_s=30, wall_s=1, num_items=50)


def _code_of(reading: object) -> str:
    assert isinstance(reading, ReaderFailure)
    return reading.code


def test_results_come_in_the_order_of_the_items() -> None:
    readings = read_each(
        hostile.square_of, range(40), limits=LIMITS, batch_size=7, num_readers=2
    )
    assert list(readings) == [number * number for number in range(40)]


def test_nothing_to_read_starts_no_reader() -> None:
    assert list(read_each(hostile.square_of, [], limits=LIMITS)) == []


def test_the_work_is_done_in_another_process() -> None:
    assert read_one(hostile.process_of, 0, limits=LIMITS) != os.getpid()


def test_a_crash_costs_its_item_alone() -> None:
    items = [1, 2, 100, 3, 101, 102, 4]
    readings = list(read_each(hostile.square_of, items, limits=LIMITS, batch_size=7))
    assert [one for one in readings if isinstance(one, int)] == [1, 4, 9, 16]
    died = [index for index, one in enumerate(readings) if not isinstance(one, int)]
    assert died == [2, 4, 5]
    assert {_code_of(readings[index]) for index in died} == {"READER_DIED"}


def test_processor_time_is_limited() -> None:
    assert _code_of(read_one(hostile.loop_forever, 0, limits=SHORT)) == "READER_LIMIT"


def test_waiting_is_limited() -> None:
    assert _code_of(read_one(hostile.sleep_long, 0, limits=HASTY)) == "READER_LIMIT"


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="Linux alone limits memory")
def test_memory_is_limited() -> None:
    assert _code_of(read_one(hostile.take_memory, 0, limits=LIMITS)) == "READER_LIMIT"


def test_endless_recursion_is_a_failure() -> None:
    assert _code_of(read_one(hostile.recurse, 0, limits=LIMITS)) == "READER_DIED"


def test_every_failure_is_a_code_of_the_gate() -> None:
    assert {"READER_DIED", "READER_LIMIT"} <= GATE_CODES.keys()


def test_a_reader_after_its_crash_is_a_new_one() -> None:
    before = read_one(hostile.process_of, 0, limits=LIMITS)
    read_one(hostile.segfault, 0, limits=LIMITS)
    assert read_one(hostile.process_of, 0, limits=LIMITS) != before


def test_a_reader_is_replaced_after_its_number_of_items() -> None:
    limits = ReaderLimits(memory_bytes=2**28, cpu_s=9, wall_s=9, num_items=2)
    pids = [read_one(hostile.process_of, 0, limits=limits) for _ in range(6)]
    assert [pids.count(pid) for pid in pids] == [2] * 6


def test_a_reader_killed_at_leisure_costs_no_item() -> None:
    pid = read_one(hostile.process_of, 0, limits=LIMITS)
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    assert read_one(hostile.square_of, 3, limits=LIMITS) == 9


def test_an_error_of_ours_crosses_whole() -> None:
    with pytest.raises(ScanRefusedError) as caught:
        read_one(hostile.refuse, "LOSSY", limits=LIMITS)
    assert caught.value.reason_code == "LOSSY"
    assert caught.value.as_json() == ScanRefusedError("LOSSY").as_json()


def test_a_full_disk_is_an_error_of_the_whole_command() -> None:
    with pytest.raises(MachineError) as caught:
        read_one(hostile.fill_disk, 0, limits=LIMITS)
    assert (caught.value.code, caught.value.remedy) == (
        "machine.disk_full",
        "Free space.",
    )


def test_an_errors_place_is_logged_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        reading = read_one(hostile.raise_with_secret, 0, limits=LIMITS)
    assert isinstance(reading, ReaderFailure)
    assert "KeyError at tests/references/hostile_files.py:" in caplog.text
    assert hostile.PLANTED_NAME not in caplog.text + reading.reason


def test_what_a_library_says_reaches_no_stream(
    capfd: pytest.CaptureFixture[str],
) -> None:
    read_one(hostile.write_word_on_stderr, 0, limits=LIMITS)
    assert capfd.readouterr() == ("", "")


def test_no_core_is_dumped() -> None:
    assert read_one(hostile.core_limits, 0, limits=LIMITS) == (0, 0)


def test_a_reader_cannot_hand_over_a_function() -> None:
    reading = read_one(hostile.return_function, 0, limits=LIMITS)
    assert reading == ReaderFailure(code="READER_DIED", reason="it answered nonsense")


def test_a_host_that_was_killed_is_replaced() -> None:
    host = read_one(hostile.host_of, 0, limits=LIMITS)
    assert isinstance(host, int)
    os.kill(host, signal.SIGKILL)
    time.sleep(0.2)
    assert read_one(hostile.square_of, 3, limits=LIMITS) == 9


def test_readings_that_nobody_takes_leave_no_reader() -> None:
    readings = read_each(
        hostile.process_then_sleep, [0, 9], limits=LIMITS, batch_size=2
    )
    pid = next(readings)
    assert isinstance(pid, int)
    readings.close()
    _wait_for_end(pid)


def test_threads_share_the_host() -> None:
    found: list[object] = []

    def read() -> None:
        found.append(read_one(hostile.square_of, 5, limits=LIMITS))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [25] * 4


def _wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    pytest.fail("the process still runs")
