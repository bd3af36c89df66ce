"""What minicnn promises, by number, and how each promise is measured.

    python -m benchmarks.reliability.promises C3

measures one in this process and prints {"kept", "measured" (a sentence), "figures"} as JSON.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Callable, NamedTuple

from benchmarks.processes import ROOT
from benchmarks.reliability import durability, hostile_input
from benchmarks.reliability.promise_tests import run_tests

__all__ = ["Promise", "PROMISES", "measured"]


class Promise(NamedTuple):
    """One line of the table: measured by a function, by the tests that hold it, or by both."""

    says: str
    bar: str            # the result that keeps it
    measure: Callable | None = None     # (quick, folder) -> (kept, sentence, figures)
    tests: tuple = ()   # as `run_tests` takes them


def _of(file, *names):
    """Return the names of tests of one file."""
    return tuple(f"{file}::{name}" for name in names)


PROMISES = {
    "B1": Promise("The same seed gives the same files", "all the same, to the byte", durability.same_seed),
    "B2": Promise("So does any number of threads and loader workers", "all the same, to the byte",
                  durability.any_threads),
    "B3": Promise("Training resumed after an interruption equals uninterrupted training", "all the same, to the byte",
                  durability.any_interruption, _of(
                      "test_training.py", "test_a_signal_at_any_check_changes_no_bit",
                      "test_dying_between_any_two_files_changes_no_bit",
                      "test_early_stopping_stops_where_it_would_have")),
    "B4": Promise("Repeated fits are the same, and a failed fit changes nothing", "all pass", None, _of(
        "test_training.py", "test_fit_is_idempotent_and_a_failed_fit_leaves_no_trace")),
    "C1": Promise("If any operation of a save fails, the old or the new file is there", "0 bad",
                  durability.failing_disk),
    "C2": Promise("So it is after a power failure", "0 bad; writers without fsync are caught", durability.power),
    "C3": Promise("So it is when the process is killed while saving", "0 lost; 30 % of kills in a write",
                  durability.killed_while_saving),
    "C4": Promise("kill -9 while training loses no reported epoch", "0 lost, the same files",
                  durability.killed_while_training),
    "C5": Promise("A full or read-only disk is an error with a message; the old file stays", "all pass", None, (*_of(
        "core/test_files.py", "test_a_full_disk_keeps_the_old_files_and_says_what_it_lacks",
        "test_a_file_larger_than_the_limit_is_an_error_in_words"), *_of(
        "test_environment.py", "test_a_checkpoint_that_finds_no_room_is_said_and_leaves_nothing",
        "test_a_read_only_run_folder_is_said"))),
    "C6": Promise("Ctrl-C and SIGTERM end a run after the current batch and save it", "all right, within 2 s",
                  durability.interruptions, ("core/test_signals.py",)),
    "C7": Promise("A damaged checkpoint is detected, and the previous one is used", "0 accepted", durability.corruption,
                  _of("test_training.py", "test_a_damaged_last_gives_way_to_previous_with_a_warning")),
    "C8": Promise("A run folder is used by one run at a time", "exit code 5 within 2 s; no lock outlives its holder",
                  durability.one_run_a_folder, _of(
                      "cli/test_main.py", "test_a_folder_serves_one_run_at_a_time",
                      "test_a_lock_goes_with_its_process_however_that_ends")),
    "C9": Promise("Too little memory is an error with a message, and nothing is lost", "exit code 3, 0 lost",
                  durability.little_memory),
    "C10": Promise("Memory is bounded", "1,024 MiB; 8 and 4 MiB grown; 32 MiB by images", durability.memory),
    "D1": Promise("Hostile weights files are refused by type, at little cost", "0 accepted or untyped, 0.1 s",
                  hostile_input.hostile_weights),
    "D2": Promise("Damaged images are decoded or refused by type", "0 anything else, 1 s",
                  hostile_input.hostile_images),
    "D3": Promise("Image bombs are refused before they use time or memory", "all refused, 1 s",
                  hostile_input.image_bombs, _of(
                      "data/test_preprocessing.py", "test_of_several_frames_the_first_is_taken", "test_thin_pictures",
                      "test_a_file_too_large_is_not_read")),
    "D4": Promise("Pixels have the values that their file defines", "all pass", None, _of(
        "data/test_preprocessing.py", "test_pixels_mean_what_they_mean", "test_exif_orientation_is_applied",
        "test_grey_in_three_equal_channels_is_the_same_grey_to_the_bit",
        "test_what_is_no_picture_is_a_typed_sentence")),
    "D5": Promise("Manifests are read fast, and all their problems are listed", "10 s, 600 MB; 0 untyped",
                  hostile_input.manifests, ("data/test_manifest.py",)),
    "D6": Promise("No path leads outside its root, and none blocks", "all pass", None, (*_of(
        "test_hostile.py", "test_a_link_put_in_place_after_the_check_does_not_lead_out",
        "test_links_inside_of_the_root_are_fine", "test_a_root_that_only_begins_alike_is_another",
        "test_a_folder_whose_real_name_is_no_text_is_refused", "test_twins_are_two_files",
        "test_predict_refuses_what_is_no_file_without_waiting", "test_predict_and_its_csv_show_odd_names_in_escapes",
        "test_warnings_show_odd_names_in_escapes",
        "test_hostile_folders_and_tables_end_every_command_in_a_sentence",
        "test_what_is_no_file_in_a_run_folder_is_not_waited_for",
        "test_a_lock_that_is_a_link_does_not_write_where_it_leads"), *_of(
        "test_weights.py", "test_places_that_are_no_file_are_refused_without_waiting"))),
    "D7": Promise("Pages, tables and JSON hold nothing active", "all pass", None, ("experiment/test_run_page.py", *_of(
        "test_hostile.py", "test_no_cell_of_a_table_is_a_formula", "test_the_runs_tables_hold_no_formula",
        "test_tables_for_the_terminal_show_every_name_in_escapes", "test_json_is_of_the_rfc_whatever_names_it_holds",
        "test_names_of_parts_reach_terminal_and_page_in_escapes"))),
    "D8": Promise("No data runs code", "all pass", None, _of(
        "test_hostile.py", "test_no_file_could_run_data", "test_the_tester_sees_what_could",
        "test_a_forged_model_is_refused_at_once", "test_no_attack_runs_imports_connects_or_writes")),
    "E1": Promise("A read-only or damaged kernel cache costs a warning", "all pass", None, _of(
        "kernels/runtime/test_jit.py", "test_a_read_only_install_is_enough", "test_damaged_code_is_compiled_again_with_one_warning",
        "test_a_process_meets_damaged_code_too", "test_code_under_the_name_of_other_code_is_not_used",
        "test_code_is_neither_loaded_from_nor_written_to_such_a_folder", "test_nobody_compiles_too",
        "test_a_full_disk_is_said_once_and_leaves_nothing",
        "test_a_user_without_a_home_gets_no_folder_in_the_current_one")),
    "E2": Promise("Four processes can use minicnn for the first time at once", "all pass", None, _of(
        "kernels/runtime/test_jit.py", "test_four_processes_that_start_together_need_no_folder",
        "test_four_processes_at_once_ten_times")),
    "E3": Promise("Forks, spawned processes and threads of the caller work", "all pass", None, _of(
        "kernels/runtime/test_work_queue.py", "test_four_threads_predict_at_once",
        "test_a_forked_child_computes_with_threads_of_its_own",
        "test_a_child_forked_while_work_runs_is_not_locked_out", "test_spawned_processes_compute_the_same")),
    "E4": Promise("No more threads than requested", "never more", durability.live_threads, _of(
        "test_environment.py", "test_the_callers_blas_keeps_its_threads")),
    "E5": Promise("No locale, home folder or flag of Python matters", "all pass", None, _of(
        "test_environment.py", "test_a_run_is_the_same_bytes_elsewhere",
        "test_a_run_needs_no_folder_for_what_it_compiles")),
    "E6": Promise("Every exit has its code and one line", "all pass", None, (*_of(
        "test_environment.py", "test_each_end_has_its_code_and_one_line", "test_what_python_raises_has_its_code_too",
        "test_a_traceback_comes_when_asked_for", "test_a_crash_of_the_process_would_show_where",
        "test_json_on_stdout_is_all_there_is_on_it"), *_of(
        "cli/test_main.py", "test_errors_are_one_line_and_a_code"))),
}


def measured(promise, quick, folder):
    """Return {"kept", "measured", "figures"} of a promise."""
    kept, sentences, figures = True, [], {}
    if promise.measure:
        kept, sentence, figures = promise.measure(quick, folder)
        sentences.append(sentence)
    if promise.tests:
        tests_kept, sentence, counts = run_tests(promise.tests, quick)
        kept, figures = kept and tests_kept, figures | {"tests": counts}
        sentences.append(sentence)
    return {"kept": bool(kept), "measured": "; ".join(sentences), "figures": figures}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("number", choices=PROMISES)
    parser.add_argument("--quick", action="store_true", help="fewer accidents")
    chosen = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ.setdefault("MPLBACKEND", "Agg")
    with tempfile.TemporaryDirectory() as folder:
        print("\n" + json.dumps(measured(PROMISES[chosen.number], chosen.quick, Path(folder))))


if __name__ == "__main__":
    main()
