"""The measured promises of minicnn, and the same accidents for minicnn and its peers.

    __main__    the program: python -m benchmarks.reliability
    tables      RELIABILITY.md and the README's table, from reliability.json
    promises    the table of promises; measured in durability (B, C, E4), hostile_input (D) and by tests (promise_tests)
    peers       accidents by name: of files in file_accidents, of training in training_accidents, both in children
    disk_faults, run_faults, hostile_files    what goes wrong, for the promises and for the tests of minicnn
"""
