"""Random numbers by address: the same address gives the same numbers, other addresses others."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, strategies as st

from minicnn.core.random import Stream, check_seed, normals, permutation, uniforms, words
from minicnn.data.augmentation import uniforms_batch
from minicnn.errors import InputError

seeds = st.integers(0, 2**64 - 1)
places = st.integers(0, 2**40)


def philox(key, counter):
    """Return the four words of one block: ten rounds, written from the paper (Salmon et al. 2011, section 4.3)."""
    def multiply(a, b):
        return (a * b) >> 64, (a * b) % 2**64
    (k0, k1), (c0, c1, c2, c3) = key, counter
    for _ in range(10):
        high0, low0 = multiply(0xD2E7470EE14C6C93, c0)
        high1, low1 = multiply(0xCA5A826395121157, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) % 2**64, (k1 + 0xBB67AE8584CAA73B) % 2**64
    return [c0, c1, c2, c3]


@given(seeds, st.sampled_from(Stream), places, places, st.integers(0, 9))
def test_words_are_the_blocks_of_philox_at_their_address(seed, stream, epoch, sample, n):
    blocks = [philox((seed, stream), (block, sample, epoch, 0)) for block in (1, 2, 3)]     # the counter moves first
    assert words(seed, stream, epoch, sample, n).tolist() == sum(blocks, [])[:n]


@given(seeds, st.sampled_from(Stream), st.lists(st.tuples(places, places), min_size=1, max_size=4), st.integers(0, 9))
def test_a_batch_of_addresses_gives_what_each_gives_alone(seed, stream, addresses, n):
    epochs, samples = zip(*addresses)
    batch = uniforms_batch(seed, stream, epochs, samples, n)
    assert batch.tolist() == [uniforms(seed, stream, epoch, sample, n).tolist() for epoch, sample in addresses]


def test_every_part_of_the_address_counts():
    addresses = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    assert len({tuple(words(*address, 4).tolist()) for address in addresses}) == 5


def test_the_streams_keep_their_numbers():
    # The values are part of the promise that a seed repeats a run: append only.
    assert [stream.name for stream in Stream][:6] == ["INITIALIZER", "SHUFFLE", "AUGMENTATION", "SPLIT", "DROPOUT",
                                                      "PHANTOM"]
    assert [stream.value for stream in Stream] == list(range(len(Stream)))


def test_frozen_draws():
    # Written down once: a change here changes every seeded result of every user.
    frozen = [14688391305020295404, 13362631371893497944, 12507237807194071159]
    assert words(7, Stream.SPLIT, 2, 5, 3).tolist() == frozen
    assert uniforms(7, Stream.SPLIT, 2, 5, 3).tolist() == [(word >> 11) / 2**53 for word in frozen]
    assert permutation(7, Stream.SHUFFLE, 0, 8).tolist() == [3, 1, 6, 2, 5, 4, 0, 7]


@given(seeds)
def test_uniforms_fill_the_half_open_interval(seed):
    u = uniforms(seed, Stream.INITIALIZER, 0, 0, 20_000)
    assert u.min() >= 0 and u.max() < 1
    # Mean and variance within 5 deviations of what is drawn: 1/12 and its own
    assert abs(u.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / u.size)
    assert abs(u.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / u.size)


def test_normals_are_normal():
    x = np.sort(normals(3, Stream.INITIALIZER, 0, 0, 100_000))
    assert np.isfinite(x).all()
    ideal = np.array([NormalDist().cdf(value) for value in x[::100]])
    # Kolmogorov and Smirnov's distance; 1.63 / sqrt(n) is exceeded by one seed in a hundred.
    assert np.abs(ideal - np.arange(0, x.size, 100) / x.size).max() < 1.63 / np.sqrt(x.size)


@given(seeds, st.integers(0, 200))
def test_a_permutation_holds_each_number_once(seed, n):
    assert sorted(permutation(seed, Stream.SHUFFLE, 1, n).tolist()) == list(range(n))


@pytest.mark.parametrize("seed", [0, 2**64 - 1, np.uint64(3), np.array(4)])
def test_seeds_that_are_taken(seed):
    assert check_seed(seed) == int(seed) and type(check_seed(seed)) is int


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, "7", None, True, np.array([1, 2])])
def test_seeds_that_are_not(seed):
    with pytest.raises(InputError, match=r"seed must be a whole number from 0 to 2\*\*64 - 1, got "):
        check_seed(seed)
