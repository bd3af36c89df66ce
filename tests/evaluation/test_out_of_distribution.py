"""Out-of-distribution detection: the description of the training images, and the images it warns of."""

import numpy as np
import pytest
from PIL import Image

from minicnn import weights
from minicnn.data import pixel_cache
from minicnn.data.decoding import ImageWarning
from minicnn.data.loader import open_dataset
from minicnn.data.manifest import Manifest
from minicnn.data.preprocessing import Preprocessing
from minicnn.data.synthetic import phantom
from minicnn.errors import InputError, WeightsError
from minicnn.evaluation.out_of_distribution import FILE, Gaussian, TrainingDistribution, of_run, thumbnails
from minicnn.layers import Conv2D, Dense, Flatten, Sigmoid
from minicnn.model import Sequential
from tests.support import tagged
from tests.support.strategies import normals


@pytest.fixture(scope="module")
def known():
    """(model, familiarity, images neither trained nor limited on)."""
    honest = tagged.trained(False)
    return honest.model, TrainingDistribution.fit(honest.model, honest.training, honest.images[:75]), honest.images[75:]


def small(size=16):
    return Sequential([Conv2D(2, 3), Flatten(), Dense(4), Dense(1), Sigmoid()], (size, size, 1))


def warned(known, x):
    model, familiarity, _ = known
    return np.mean([bool(sentences) for sentences in familiarity.warnings(model, x)])


# ---- Warnings --------------------------------------------------------------------------------------------------------

def test_few_radiographs_cause_a_warning(known):
    assert warned(known, known[2]) <= 0.07


@pytest.mark.parametrize("name, change, at_least", [
    ("inverted", lambda x: 255 - x, 0.9), ("upside down", lambda x: x[:, ::-1], 0.9),
    ("on its side", lambda x: x.transpose(0, 2, 1, 3), 0.9),
    ("noise", lambda x: (normals(0, x.shape) * 50 + 128).clip(0, 255).astype(np.uint8), 0.95),
    ("black", lambda x: x * 0, 1.0), ("flat grey", lambda x: x * 0 + 128, 1.0),
    ("stripes", lambda x: x * 0 + (np.arange(64) // 8 % 2 * 200).astype(np.uint8)[:, np.newaxis], 1.0)])
def test_out_of_distribution_images_cause_a_warning(known, name, change, at_least):
    assert warned(known, change(known[2])) >= at_least


def test_sentences_name_the_difference(known):
    model, familiarity, images = known
    sentences = familiarity.warnings(model, np.concatenate([255 - images[:1], images[:1] * 0 + 128, images[1:2]]))
    assert any(s.startswith("it does not look like the training images (distance") for s in sentences[0])
    assert any(s.startswith("its contrast is 0.000, of the training images 0.") for s in sentences[1])
    assert sentences[2] == familiarity.warnings(model, images[1:2])[0]          # whatever is asked about with it


def test_warnings_are_for_distances_beyond_the_limit(known):
    model, familiarity, images = known
    x = np.concatenate([images, *((image + (255.0 - 2 * image) * np.linspace(0.1, 0.5, 9).reshape(-1, 1, 1, 1))
                                  for image in images[:6])]) / np.float32(255)
    distances = familiarity.look.distance(thumbnails(x))
    said = [any("does not look" in s for s in sentences) for sentences in familiarity.warnings(model, x)]
    assert said == (distances > familiarity.look.limit).tolist()
    near = distances / familiarity.look.limit
    assert ((near > 1) & (near < 1.3)).any() and ((near > 0.8) & (near < 1)).any()


def test_the_limit_is_the_99_percent_quantile():
    x, y = normals(0, (500, 6)) @ np.diag([1, 5, 1, 0.1, 2, 1]) + 3, normals(1, (100, 6)) + 3
    cloud = Gaussian.fit(x, y)
    assert (cloud.distance(x) <= cloud.limit).mean() >= 0.99 and (cloud.distance(y) <= cloud.limit).mean() >= 0.99
    spread = np.cov(x.T, bias=True)
    spread = 0.9 * spread + 0.1 * np.trace(spread) / 6 * np.eye(6)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", x - x.mean(0), np.linalg.inv(spread), x - x.mean(0)) / 6)
    np.testing.assert_allclose(cloud.distance(x), expected, rtol=1e-5)
    assert Gaussian.fit(np.ones((9, 3)), np.ones((2, 3))) is None                  # nothing varies: nothing to measure by


def test_thumbnails_are_standardised_8_x_8_means():
    x = normals(0, (2, 24, 16, 3)) * 0.2
    means = x.mean(axis=3).reshape(2, 8, 3, 8, 2).mean(axis=(2, 4)).reshape(2, 64)
    means -= means.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(thumbnails(x), means / (means.std(axis=1, keepdims=True) + 0.05), atol=1e-12)
    np.testing.assert_allclose(thumbnails(x + 0.3), thumbnails(x), atol=1e-12)
    assert thumbnails(np.ones((1, 19, 11, 1))).shape == (1, 64)                    # sides that 8 does not divide
    with pytest.raises(InputError, match="8 x 8, got 7 x 9"):
        thumbnails(np.ones((1, 7, 9, 1)))


# ---- Files -----------------------------------------------------------------------------------------------------------

@pytest.fixture
def files(tmp_path):
    """12 grey radiographs of 40 x 48 as files; a coloured and a wide one; (paths, coloured, wide)."""
    paths = []
    for i, image in enumerate(phantom.generate(n=12, seed=2).images):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(image).resize((40, 48)).save(paths[-1])
    with Image.open(paths[0]) as picture:
        picture.resize((130, 48)).save(tmp_path / "wide.png")
        Image.merge("RGB", [picture, picture.point(lambda v: v // 2), picture]).save(tmp_path / "coloured.png")
    return paths, tmp_path / "coloured.png", tmp_path / "wide.png"


def test_colour_and_shape_of_files(files):
    paths, coloured, wide = files
    model = small()
    model.preprocessing = Preprocessing(16, 16, 1)
    everything = [str(path) for path in (*paths, coloured, wide)]
    source = open_dataset(everything, model.preprocessing)
    assert source.facts.tolist() == [[40, 48, 0]] * 12 + [[40, 48, 1], [130, 48, 0]]
    familiarity = TrainingDistribution.fit(model, everything[:8], everything[8:12])
    for x in (everything, source):
        said = familiarity.warnings(model, x)
        assert not any("colour" in s or "width" in s for sentences in said[:12] for s in sentences)
        assert "it is in colour, the training images are grey" in said[12]
        assert "its width is 2.71 of its height, of the training images 0.76 to 0.92" in said[13]
    in_colour = TrainingDistribution.fit(model, everything[:8] + [str(coloured)], everything[8:12])
    assert not any("colour" in s for s in in_colour.warnings(model, [str(coloured)])[0])
    in_memory = TrainingDistribution.fit(model, source.batch(np.arange(8)), source.batch(np.arange(8, 12)))
    assert in_memory.ratio is None and not in_memory.coloured                  # nothing is said of shapes then


def test_what_is_in_colour(tmp_path, monkeypatch):
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(tmp_path / "cache"))           # warnings belong to decoding
    grey = Image.fromarray(phantom.generate(n=2, seed=2).images[0])
    third = Image.merge("RGB", [grey.point(lambda v: v // 3 * 2 + 85), grey.point(lambda v: v // 3), grey])
    plain = Image.new("RGB", (40, 50), (200, 100, 90))
    hidden, palette = plain.convert("RGBA"), plain.quantize(4)
    hidden.putalpha(0)
    tag = grey.convert("RGB")
    tag.paste((255, 0, 0), (0, 0, 13, 13))                                     # 4 % of the pixels
    cases = {"grey": (grey, 0), "three": (grey.convert("RGB"), 0), "tinted": (third, 1), "red": (plain, 1),
             "hidden": (hidden, 0), "palette": (palette, 1), "tag": (tag, 0)}
    files = []
    for name, (picture, _) in cases.items():
        files.append(str(tmp_path / f"{name}.png"))
        picture.save(files[-1])
    palette.save(tmp_path / "clear.png", transparency=palette.getpixel((0, 0)))
    plain.convert("CMYK").save(tmp_path / "cmyk.jpg")
    files += [str(tmp_path / "clear.png"), str(tmp_path / "cmyk.jpg")]
    with pytest.warns(ImageWarning, match="2 of 9 images: each is not opaque"):
        source = open_dataset(files, Preprocessing(16, 16, 1))
    assert source.facts[:, 2].tolist() == [coloured for _, coloured in cases.values()] + [0, 1]
    assert source.facts[3].tolist() == [40, 50, 1]


def test_files_are_decoded_once(files, tmp_path, monkeypatch):
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(tmp_path / "cache"))
    paths, decoded = [str(path) for path in files[0]], []
    model = small()
    model.preprocessing = Preprocessing(16, 16, 1)
    familiarity = TrainingDistribution.fit(model, paths[:8], paths[8:])
    original = pixel_cache.open_planes
    monkeypatch.setattr(pixel_cache, "open_planes", lambda *arguments: decoded.append(arguments[1]) or original(*arguments))
    source = open_dataset(paths[3:6], model.preprocessing)
    model.predict(source), familiarity.warnings(model, source)
    assert sorted(decoded) == sorted(paths[3:6])


# ---- The file --------------------------------------------------------------------------------------------------------

def test_a_loaded_description_gives_the_same_warnings(known, tmp_path):
    model, familiarity, images = known
    familiarity.save(tmp_path / FILE)
    loaded = of_run(tmp_path)
    x = np.concatenate([images[:20], 255 - images[:20]])
    assert loaded.warnings(model, x) == familiarity.warnings(model, x)
    familiarity.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / FILE).read_bytes()
    assert (tmp_path / FILE).stat().st_size < 100_000
    assert of_run(tmp_path / "elsewhere") is None and of_run(tmp_path / FILE) is None


def test_other_weights_and_other_networks_are_refused(known):
    model, familiarity, images = known
    other = Sequential([Conv2D(2, 3), Flatten(), Dense(1), Sigmoid()], (64, 64, 1))
    with pytest.raises(InputError, match="other weights"):
        familiarity.warnings(other, images)
    with pytest.raises(InputError, match="does not take images but inputs of shape"):
        TrainingDistribution.fit(Sequential([Dense(1)], (4,)), np.zeros((3, 4)), np.zeros((3, 4)))
    with pytest.raises(InputError, match="two training images or more, got 1"):
        TrainingDistribution.fit(other, images[:1], images[:2])


def test_very_many_features_are_not_used(known):
    _, _, images = known
    other = Sequential([Conv2D(2, 3), Flatten(), Dense(1), Sigmoid()], (64, 64, 1))
    familiarity = TrainingDistribution.fit(other, images[:40], images[40:])
    assert familiarity.features is None and familiarity.look is not None
    assert any(familiarity.warnings(other, 255 - images[:1])[0])


def test_invalid_files_are_refused(known, tmp_path):
    path = tmp_path / FILE
    known[1].save(path)
    tensors, metadata = weights.load(path)
    del metadata["format"]
    cases = [({"contrast": np.array([0.5, 0.1])}, "a range was expected"),
             ({"contrast": np.zeros(3)}, "a range was expected"),
             ({"look/whiten": np.zeros((64, 63), np.float32)}, "look: a mean, a square matrix and a positive limit"),
             ({"look/limit": np.array(-1.0)}, "a positive limit"),
             ({"coloured": np.zeros(2, np.uint8)}, "another format")]
    for change, sentence in cases:
        weights.save(path, tensors | change, metadata | {"format": "minicnn familiarity 1"})
        with pytest.raises(WeightsError, match=sentence):
            TrainingDistribution.load(path)
    weights.save(path, {name: array for name, array in tensors.items() if name != "look/limit"},
                 metadata | {"format": "minicnn familiarity 1"})
    with pytest.raises(WeightsError, match="look/limit.* another version"):
        TrainingDistribution.load(path)
    weights.save(path, tensors, metadata | {"format": "minicnn model 1"})
    with pytest.raises(WeightsError, match="another format"):
        TrainingDistribution.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError):
        of_run(tmp_path)


@pytest.mark.soak
def test_real_radiographs(shared):
    """Untrained features, real thumbnails: radiographs of other hospitals pass, rotated and inverted ones do not."""
    data = shared / "data" / "chestxray"
    manifest = Manifest.read(data / "manifest.csv")
    training, validation, test = (part.open(Preprocessing(64, 64, 1)) for part in manifest.split(seed=1))
    model = small(64)
    model.preprocessing = Preprocessing(64, 64, 1)
    familiarity = TrainingDistribution.fit(model, training, validation)
    x = test.batch(np.arange(len(test)))
    outside = Manifest.read(data / "external.csv").open(Preprocessing(64, 64, 1))
    shares = {name: np.mean([any(sentences) for sentences in familiarity.warnings(model, pictures)])
              for name, pictures in {"test": x, "outside": outside, "inverted": 1 - x, "turned": x[:, ::-1]}.items()}
    assert shares["test"] <= 0.10 and shares["outside"] <= 0.10
    assert shares["inverted"] >= 0.9 and shares["turned"] >= 0.9
