"""How the promises on untrusted input (D) are measured; the arguments and results are those of durability.py."""

from benchmarks.reliability import hostile_files
from benchmarks.reliability.disk_faults import load_mutants, measure_bombs
from benchmarks.reliability.durability import small_checkpoint


def hostile_weights(quick, folder):
    found = load_mutants(small_checkpoint(folder), 2000 if quick else 50_100, seed=1)
    measured = measure_bombs(folder)
    slowest = max(seconds for seconds, _, _ in measured.values())
    above = [name for name, (_, grown, bound) in measured.items() if grown > bound]
    return (not found["bad"] and found["worst seconds"] <= 0.1 and slowest <= 0.1 and not above,
            f"{found['mutants']:,} damaged files and {found['forgeries']:,} forged ones: {len(found['bad'])} accepted "
            f"or untyped, the slowest {1e3 * found['worst seconds']:.1f} ms; {len(measured)} bombs: the slowest "
            f"{1e3 * slowest:.0f} ms, {len(above)} used more memory than twice their size plus 16 MiB",
            found | {"bombs": len(measured), "slowest bomb": slowest, "above": above})


def hostile_images(quick, folder):
    found = hostile_files.measure_images(1000 if quick else 20_000, seed=1)
    return (found["untyped"] == found["wrong"] == 0 and found["worst_seconds"] <= 1,
            f"{found['files']:,} damaged images in {len(hostile_files.IMAGES)} formats: {found['decoded']:,} decoded, "
            f"{found['refused']:,} refused by type, {found['untyped'] + found['wrong']} with any other result, the "
            f"slowest {1e3 * found['worst_seconds']:.0f} ms", found)


def image_bombs(quick, folder):
    found = hostile_files.measure_bombs()
    return (not found["wrong"] and found["untyped"] == 0 and found["worst_seconds"] <= 1,
            f"{found['refused']} of {found['files']} bombs refused, the slowest in {found['worst_seconds']:.2f} s, "
            f"{found['grown_bytes'] / 2**20:.1f} MiB of memory", found)


def manifests(quick, folder):
    drawn = hostile_files.measure_manifests(200 if quick else 10_000, folder / "drawn", seed=1)
    (folder / "rows").mkdir()
    rows = hostile_files.measure_rows_alone(20_000 if quick else 10**6, folder / "rows")
    return (drawn["untyped"] == drawn["wrong"] == 0 and rows["seconds"] <= 10 and rows["peak_bytes"] <= 600e6,
            f"{rows['rows']:,} rows in {rows['seconds']:.1f} s and {rows['peak_bytes'] / 1e6:.0f} MB; "
            f"{drawn['files']:,} drawn manifests: {drawn['read']:,} read, {drawn['refused']:,} refused by type, "
            f"{drawn['untyped'] + drawn['wrong']} with any other result", {"rows": rows, "drawn": drawn})
