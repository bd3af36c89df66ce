"""How promises D (nothing let in) and E (anywhere) are measured.

Each function takes (quick, folder) and returns (kept, what was measured in a sentence, figures).
"""

import json
import subprocess
import sys

import hostile
from crash import load_mutants, measure_bombs
from runs_harness import measure

from benchmarks.processes import ROOT
from benchmarks.reliability.crashes import small_checkpoint
from benchmarks.reliability.tested import also, tested


# ---- D: hostile input ------------------------------------------------------------------------------------------------

def hostile_weights(quick, folder):
    found = load_mutants(small_checkpoint(folder), 2000 if quick else 50_100, seed=1)
    measured = measure_bombs(folder)
    slowest = max(seconds for seconds, _, _ in measured.values())
    above = [name for name, (_, grown, bound) in measured.items() if grown > bound]
    return (not found["bad"] and found["worst seconds"] <= 0.1 and slowest <= 0.1 and not above,
            f"{found['mutants']:,} damaged files and {found['forgeries']:,} forged ones: {len(found['bad'])} accepted "
            f"or untyped, the slowest {1e3 * found['worst seconds']:.1f} ms; {len(measured)} bombs: the slowest "
            f"{1e3 * slowest:.0f} ms, {len(above)} took more memory than twice their size and 16 MiB",
            found | {"bombs": len(measured), "slowest bomb": slowest, "above": above})


def hostile_images(quick, folder):
    found = hostile.measure_images(1000 if quick else 20_000, seed=1)
    return (found["untyped"] == found["wrong"] == 0 and found["worst_seconds"] <= 1,
            f"{found['files']:,} damaged images in {len(hostile.IMAGES)} formats: {found['decoded']:,} decoded, "
            f"{found['refused']:,} refused by type, {found['untyped'] + found['wrong']} anything else, the slowest "
            f"{1e3 * found['worst_seconds']:.0f} ms", found)


def image_bombs(quick, folder):
    found = hostile.measure_bombs()
    return also((not found["wrong"] and found["untyped"] == 0 and found["worst_seconds"] <= 1,
                 f"{found['refused']} of {found['files']} bombs refused, the slowest in {found['worst_seconds']:.2f} "
                 f"s, {found['grown_bytes'] / 2**20:.1f} MiB of memory", found),
                "test_images.py::test_of_several_frames_the_first_is_taken", "test_images.py::test_thin_pictures",
                "test_images.py::test_a_file_too_large_is_not_read")


def pixels(quick, folder):
    return tested(*(f"test_images.py::{name}" for name in (
        "test_pixels_mean_what_they_mean", "test_exif_orientation_is_applied",
        "test_grey_in_three_equal_channels_is_the_same_grey_to_the_bit",
        "test_what_is_no_picture_is_a_typed_sentence")))


def manifests(quick, folder):
    drawn = hostile.measure_manifests(200 if quick else 10_000, folder / "drawn", seed=1)
    code = "import json, sys, hostile; print(json.dumps(hostile.measure_rows(int(sys.argv[1]), sys.argv[2])))"
    (folder / "rows").mkdir()
    done = subprocess.run([sys.executable, "-c", code, str(20_000 if quick else 10**6), folder / "rows"], check=True,
                          cwd=ROOT / "tests", capture_output=True, text=True)
    rows = json.loads(done.stdout.splitlines()[-1])
    return also((drawn["untyped"] == drawn["wrong"] == 0 and rows["seconds"] <= 10 and rows["peak_bytes"] <= 600e6,
                 f"{rows['rows']:,} rows in {rows['seconds']:.1f} s and {rows['peak_bytes'] / 1e6:.0f} MB; "
                 f"{drawn['files']:,} drawn manifests: {drawn['read']:,} read, {drawn['refused']:,} refused by type, "
                 f"{drawn['untyped'] + drawn['wrong']} anything else", {"rows": rows, "drawn": drawn}),
                "test_manifest.py")


def paths(quick, folder):
    return tested(*(f"test_hostile.py::{name}" for name in (
        "test_a_link_put_in_place_after_the_check_does_not_lead_out", "test_links_inside_of_the_root_are_fine",
        "test_a_root_that_only_begins_alike_is_another", "test_a_folder_whose_real_name_is_no_text_is_refused",
        "test_twins_are_two_files", "test_predict_refuses_what_is_no_file_without_waiting",
        "test_predict_and_its_csv_show_odd_names_in_escapes", "test_warnings_show_odd_names_in_escapes",
        "test_hostile_folders_and_tables_end_every_command_in_a_sentence",
        "test_what_is_no_file_in_a_run_folder_is_not_waited_for",
        "test_a_lock_that_is_a_link_does_not_write_where_it_leads")),
        "test_weights.py::test_places_that_are_no_file_are_refused_without_waiting")


def exports(quick, folder):
    return tested("test_page.py", *(f"test_hostile.py::{name}" for name in (
        "test_no_cell_of_a_table_is_a_formula", "test_the_runs_tables_hold_no_formula",
        "test_tables_for_the_terminal_show_every_name_in_escapes", "test_json_is_of_the_rfc_whatever_names_it_holds",
        "test_names_of_parts_reach_terminal_and_page_in_escapes")))


def nothing_runs(quick, folder):
    return tested(*(f"test_hostile.py::{name}" for name in (
        "test_no_file_could_run_data", "test_the_tester_sees_what_could", "test_a_forged_model_is_refused_at_once",
        "test_no_attack_runs_imports_connects_or_writes")),
        "test_weights.py::test_loading_runs_no_code_and_writes_nothing")


# ---- E: environment --------------------------------------------------------------------------------------------------

def strange_caches(quick, folder):
    return tested(*(f"test_jit.py::{name}" for name in (
        "test_a_read_only_install_is_enough", "test_damaged_code_is_compiled_again_with_one_warning",
        "test_a_process_meets_damaged_code_too", "test_code_under_the_name_of_other_code_is_not_used",
        "test_code_is_neither_loaded_from_nor_written_to_such_a_folder", "test_nobody_compiles_too",
        "test_a_full_disk_is_said_once_and_leaves_nothing",
        "test_a_user_without_a_home_gets_no_folder_in_the_current_one")))


def first_use_together(quick, folder):
    return tested("test_jit.py::test_four_processes_that_start_together_need_no_folder",
                  "test_jit.py::test_four_processes_at_once_ten_times")


def others_processes(quick, folder):
    return tested(*(f"test_board.py::{name}" for name in (
        "test_four_threads_predict_at_once", "test_a_forked_child_computes_with_threads_of_its_own",
        "test_a_child_forked_while_work_runs_is_not_locked_out", "test_spawned_processes_compute_the_same")))


def live_threads(quick, folder):
    over, told = 0, []
    for count, workers in ((2, 1),) if quick else ((1, 0), (2, 1), (4, 2), (4, 4)):
        found = measure("threads", count=count, workers=workers)
        more = found["during"] - found["before"]
        over += more > count - 1 + workers or found["after"] - found["before"] > count - 1
        told.append(f"{more} where {count - 1 + workers} may be")
    return also((over == 0, f"threads besides the main one while training: {', '.join(told)}", {"told": told}),
                "test_environment.py::test_the_callers_blas_keeps_its_threads")


def strange_places(quick, folder):
    return tested("test_environment.py::test_a_run_is_the_same_bytes_elsewhere",
                  "test_environment.py::test_a_run_needs_no_folder_for_what_it_compiles", quick=quick)


def ends(quick, folder):
    return tested(*(f"test_environment.py::{name}" for name in (
        "test_each_end_has_its_code_and_one_line", "test_what_python_raises_has_its_code_too",
        "test_a_traceback_comes_when_asked_for", "test_a_crash_of_the_process_would_show_where",
        "test_json_on_stdout_is_all_there_is_on_it")), "test_cli.py::test_errors_are_one_line_and_a_code")
