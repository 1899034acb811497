"""The networks of papers: their counts, as the papers and torchvision have them, and a small copy of each at work."""

import re
import sys
from fnmatch import fnmatch

import numpy as np
import pytest

import tinynet as tn
from tests.test_cuda_networks import backend  # noqa: F401  # a fixture
from tinynet import models, nn, ops, optim
from tinynet.nn import summary

# name: (arguments, parameters, multiply-adds). Those of ImageNet's networks are in torchvision's table of weights.
COUNTS = {
    "lenet5": ((), 61_706, 416_520),
    "resnet20": ((), 269_722, 40_551_040),  # 0.27 M and 41 M in the papers
    "alexnet": ((), 61_100_840, 714_188_480),
    "vgg11": ((), 132_863_336, 7_609_090_048),
    "vgg16": ((), 138_357_544, 15_470_264_320),
    "googlenet": ((), 6_624_904, 1_498_376_192),
    "squeezenet": ((), 1_248_424, 818_924_576),
    "resnet18": ((), 11_689_512, 1_814_073_344),
    "resnet34": ((), 21_797_672, 3_663_761_408),
    "resnet50": ((), 25_557_032, 4_089_184_256),
    "densenet121": ((), 7_978_856, 2_834_161_664),
    "mobilenet_v1": ((), 4_231_976, 568_740_352),  # 569 M in the paper
    "mobilenet_v2": ((), 3_504_872, 300_774_272),
    "shufflenet_v1": ((), 1_865_728, 137_460_672),  # 137 M in the paper
    "vit": ((), 86_567_656, 17_563_828_224),
    "autoencoder": ((), 113_681, 805_952),
    "unet": ((), 31_030_658, 48_096_083_968),
    "gpt": ((65,), 809_856, 55_058_432),  # 0.80 M in nanoGPT, without positions
    "char_lstm": ((65,), 111_361, 106_624),
    "text_classifier": ((10_000,), 739_074, 98_560),
}

# name: (a small copy, its inputs for four samples, what it is to say of them)
RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 7, (4, 5))
CLASSES = np.array([0, 2, 1, 2])


SMALL_VIT = {"patch": 4, "layers": 1, "heads": 2, "width": 8, "input_shape": (8, 8, 3)}


def images(*shape):
    return RNG.random((4, *shape)).astype(np.float32)


SMALL = {
    "lenet5": (lambda: models.lenet5(3, input_shape=(16, 16, 1)), images(16, 16, 1), CLASSES),
    "resnet20": (lambda: models.resnet20(3, width=2, input_shape=(8, 8, 3)), images(8, 8, 3), CLASSES),
    "alexnet": (lambda: models.alexnet(3, width=2, hidden=8, input_shape=(63, 63, 3)), images(63, 63, 3), CLASSES),
    "vgg11": (lambda: models.vgg11(3, width=2, hidden=8, input_shape=(32, 32, 3)), images(32, 32, 3), CLASSES),
    "vgg16": (
        lambda: models.vgg16(3, batch_norm=True, width=2, hidden=8, input_shape=(32, 32, 3)),
        images(32, 32, 3),
        CLASSES,
    ),
    "googlenet": (lambda: models.googlenet(3, input_shape=(31, 31, 3)), images(31, 31, 3), CLASSES),
    "squeezenet": (lambda: models.squeezenet(3, input_shape=(29, 29, 3)), images(29, 29, 3), CLASSES),
    "resnet18": (lambda: models.resnet18(3, width=2, input_shape=(33, 31, 3)), images(33, 31, 3), CLASSES),
    "resnet34": (lambda: models.resnet34(3, width=2, input_shape=(32, 32, 1)), images(32, 32, 1), CLASSES),
    "resnet50": (lambda: models.resnet50(3, width=2, input_shape=(32, 32, 3)), images(32, 32, 3), CLASSES),
    "densenet121": (lambda: models.densenet121(3, growth=2, input_shape=(32, 32, 3)), images(32, 32, 3), CLASSES),
    "mobilenet_v1": (lambda: models.mobilenet_v1(3, width=0.1, input_shape=(32, 32, 3)), images(32, 32, 3), CLASSES),
    "mobilenet_v2": (lambda: models.mobilenet_v2(3, width=0.1, input_shape=(32, 32, 3)), images(32, 32, 3), CLASSES),
    "shufflenet_v1": (lambda: models.shufflenet_v1(3, width=0.2, input_shape=(32, 32, 3)), images(32, 32, 3), CLASSES),
    "vit": (
        lambda: models.vit(3, patch=4, layers=2, heads=2, width=8, hidden=6, input_shape=(8, 12, 3)),
        images(8, 12, 3),
        CLASSES,
    ),
    "autoencoder": (lambda: models.autoencoder(3, width=2, input_shape=(8, 12, 1)), pixels := images(8, 12, 1), pixels),
    "unet": (
        lambda: models.unet(3, width=2, depth=2, input_shape=(8, 12, 1)),
        images(8, 12, 1),
        RNG.integers(0, 3, (4, 8, 12)),
    ),
    "gpt": (lambda: models.gpt(7, layers=2, heads=2, width=8, context=6), IDS, (IDS + 1) % 7),
    "char_lstm": (lambda: models.char_lstm(7, 6, embedding=3), IDS, (IDS + 1) % 7),
    "text_classifier": (lambda: models.text_classifier(7, 3, hidden=6, embedding=3), IDS, CLASSES),
}


def loss_of(logits, labels):
    """Cross-entropy with a label for each sample, step or pixel; or with the pixels themselves."""
    of_pixels = labels.dtype.kind == "f"
    return (ops.binary_cross_entropy_with_logits if of_pixels else ops.softmax_cross_entropy)(logits, labels)


def built(name, call):
    model = call()
    if model.built is None:
        model.build(SMALL[name][1].shape[1:])
    return model


def test_all_published_networks_are_checked():
    published = {name for name, f in models.MODELS.items() if f.__module__ != models.basic.__name__}
    assert published - {"dcgan"} == set(COUNTS) == set(SMALL)


def multiply_adds(model):
    return int(re.search(r"([\d,]+) multiply-adds,", summary.table(model))[1].replace(",", ""))


@pytest.fixture
def weightless(monkeypatch):
    """Weights are not drawn: memory of zeros that nobody writes takes no space."""
    monkeypatch.setattr(
        nn.Module, "parameter", lambda self, shape, _: nn.Parameter(np.zeros(shape, np.float32), tn.backends.current())
    )
    for name, module in list(sys.modules.items()):
        if name.startswith("tinynet.models.") and hasattr(module, "normal"):
            monkeypatch.setattr(module, "normal", lambda *args, **options: None)


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_and_multiply_adds(name, weightless, monkeypatch):
    monkeypatch.setattr(ops, "conv2d", None)  # sizes are inferred, no image is computed
    arguments, parameters, work = COUNTS[name]
    model = models.MODELS[name](*arguments)
    if model.built is None:
        model.build(1)
    assert sum(p.size for p in model.parameters()) == parameters
    assert multiply_adds(model) == work
    assert all(f"{count:,}" in models.MODELS[name].__doc__ for count in (parameters, work))


def test_batch_normalisation_of_vgg_and_the_counts_of_dcgan(weightless):
    for make, count in ((models.vgg11, 5_504), (models.vgg16, 8_448)):
        plain, normed = (sum(p.size for p in make(batch_norm=flag).parameters()) for flag in (False, True))
        assert normed - plain == count and f"{count:,}" in make.__doc__
    for part in models.dcgan():
        counts = sum(p.size for p in part.parameters()), multiply_adds(part)
        assert all(f"{count:,}" in models.dcgan.__doc__ for count in counts)


@pytest.mark.parametrize("name", SMALL)
def test_a_small_copy_has_the_right_gradient(name):
    """In a random direction in the space of all parameters, in float64, by central differences."""
    make, x, y = SMALL[name]
    tn.seed(1)
    model = built(name, make).astype(np.float64)

    def loss():
        tn.seed(5)  # dropout drops the same
        return loss_of(model(x), y)

    parameters, rng, eps = model.parameters(), np.random.default_rng(2), 1e-6
    with tn.no_grad():
        for p in parameters:  # none is 0
            p += 0.02 * rng.standard_normal(p.shape)
    loss().backward()
    assert all(p.grad is not None and np.isfinite(p.grad.numpy()).all() for p in parameters)
    count = sum(p.size for p in parameters)
    direction = [rng.standard_normal(p.shape) / count**0.5 for p in parameters]
    values = []
    with tn.no_grad():
        for step in (eps, -2 * eps):
            for p, d in zip(parameters, direction, strict=True):
                p += step * d
            values.append(loss().item())
    slope = sum(float((p.grad.numpy() * d).sum()) for p, d in zip(parameters, direction, strict=True))
    assert (values[0] - values[1]) / (2 * eps) == pytest.approx(slope, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", SMALL)
def test_a_small_copy_says_its_size_and_comes_back_from_its_file(name, tmp_path):
    make, x, _ = SMALL[name]
    model = built(name, make).eval()
    y = model(x)
    assert model.output_size(x.shape[1:]) == y.shape[1:]
    tn.save(model, tmp_path / "model.safetensors")
    again = tn.load(tmp_path / "model.safetensors").eval()
    assert type(again) is type(model) and again.state_dict().keys() == model.state_dict().keys()
    np.testing.assert_array_equal(again(x).numpy(), y.numpy())


@pytest.mark.parametrize("name", SMALL)
def test_a_small_copy_takes_a_step_with_any_number_of_workers(name):
    make, x, y = SMALL[name]
    losses = []
    for workers in (1, 2):
        tn.seed(3)
        model = built(name, make)
        with tn.set_conv_algorithm("exact"):
            (row,) = tn.fit(
                model, (x, y), epochs=1, batch_size=4, optimizer="sgd", loss=loss_of, workers=workers, verbose=False
            )
        losses.append(row["loss"])
        assert all(np.isfinite(p.numpy()).all() for p in model.parameters())
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("name", [name for name in SMALL if name not in ("vgg11", "resnet34", "mobilenet_v1")])
def test_a_small_copy_takes_a_step_on_a_device(name, backend):  # noqa: F811
    make, x, y = SMALL[name]
    losses = {}
    for place in ("numpy", backend):
        with tn.use(place), tn.set_conv_algorithm("exact"):
            tn.seed(4)
            model = built(name, make)
            optimizer = optim.SGD(model.parameters(), 1e-3)
            loss = loss_of(model(x[:2]), y[:2])
            loss.backward()
            optimizer.step(loss)
            losses[place] = loss.item()
            assert not optimizer.voided
    assert losses[backend] == pytest.approx(losses["numpy"], rel=1e-2)  # norms of two values enlarge their rounding


def test_lengths_end_a_text_where_padding_begins():
    model = models.text_classifier(7, 3, hidden=6, embedding=3)
    lengths = np.array([5, 2, 1, 4])
    y = model(IDS, lengths).numpy()
    for row, ids, n in zip(y, IDS, lengths, strict=True):
        np.testing.assert_allclose(row, model(ids[None, :n]).numpy()[0], rtol=1e-5, atol=1e-6)
    tn.fit(model, ((IDS, lengths), CLASSES), epochs=1, verbose=False)


def test_an_empty_text_among_others_is_no_mistake():
    model = models.text_classifier(7, 2, hidden=3, embedding=2).build(3, input_dtype=np.int64)
    texts = tn.data.text.Buckets([[], [1, 2], [3]], [0, 1, 1], batch_size=1)
    assert np.isfinite(tn.fit(model, texts, epochs=2, verbose=False)[-1]["loss"])


def test_what_is_trained_by_steps_alone_is_saved_whole(tmp_path):
    by_hand, generating = models.char_lstm(7, 4, embedding=3), models.char_lstm(7, 4, embedding=3)
    by_hand.step(IDS)
    tn.generate(generating, [1], 2)
    for model in (by_hand, generating):
        tn.save(model, tmp_path / "m")
        np.testing.assert_array_equal(tn.load(tmp_path / "m")(IDS).numpy(), model(IDS).numpy())


@pytest.mark.parametrize(
    "call, error, text",
    [
        (
            lambda: models.vit(4, **SMALL_VIT)(np.ones((1, 9, 8, 3))),
            ValueError,
            r"ViT: .* \(9, 8, 3\) must be divisible",
        ),
        (lambda: models.vit(4, patch=3, input_shape=(8, 8, 3)), ValueError, "must be divisible by patch=3"),
        (lambda: models.vit(patch=0), ValueError, "vit: patch=0 must be an int >= 1"),
        (lambda: models.vit(patch=(4, 4)), ValueError, r"vit: patch=\(4, 4\) must be an int"),
        (lambda: models.vit(layers=-1), ValueError, "vit: layers=-1 must be"),
        (lambda: models.gpt(9, layers=-2), ValueError, "gpt: layers=-2 must be"),
        (lambda: models.unet(depth=-1), ValueError, "unet: depth=-1 must be"),
        (lambda: models.mobilenet_v2(width=0), ValueError, "mobilenet_v2: width=0 must be above 0"),
        (lambda: models.autoencoder(input_shape=(28, 28)), ValueError, r"must be \(H, W, C\) of one image"),
        (lambda: models.lenet5(input_shape=28), ValueError, r"lenet5: input_shape=28 must be \(H, W, C\)"),
        (lambda: models.lenet5(input_shape=(None, 28, 28, 1)), ValueError, r"as in the default \(28, 28, 1\)"),
        (lambda: models.resnet20(num_classes=10), TypeError, "in tinynet: classes="),
        (lambda: models.vgg16(pretrained=True), TypeError, "in tinynet: no weights come along"),
        (lambda: models.gpt(9, block_size=4), TypeError, "in tinynet: context="),
    ],
)
def test_mistakes_are_explained(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_dcgan_draws_images_and_is_trained_against_itself():
    tn.seed(0)
    generator, discriminator = models.dcgan(8, width=4, channels=3)
    noise, data = RNG.standard_normal((6, 1, 1, 8)).astype(np.float32), RNG.random((6, 28, 28, 3)).astype(np.float32)
    drawn = generator(noise)
    assert drawn.shape == data.shape and np.abs(drawn.numpy()).max() <= 1
    assert discriminator(drawn).shape == (6, 1)
    judged = ops.binary_cross_entropy_with_logits(discriminator(drawn), np.ones((6, 1), np.float32))
    judged.backward()
    optim.Adam(generator.parameters(), 1e-3).step()
    better = ops.binary_cross_entropy_with_logits(discriminator(generator(noise)), np.ones((6, 1), np.float32))
    assert better.item() < judged.item()


# What is drawn, as the papers say: a pattern of names, the mean and the standard deviation.
DRAWN = [
    (lambda: models.gpt(65, layers=8), "tokens.weight", 0, 0.02),
    (lambda: models.gpt(65, layers=8), "positions", 0, 0.02),
    (lambda: models.gpt(65, layers=8), "*.in_weight", 0, 0.02),
    (lambda: models.gpt(65, layers=8), "*.weight1", 0, 0.02),
    (lambda: models.gpt(65, layers=8), "*.out_weight", 0, 0.02 / 4),
    (lambda: models.gpt(65, layers=8), "*.weight2", 0, 0.02 / 4),
    (lambda: models.gpt(65, layers=8), "*.norm?.weight", 1, 0),
    (lambda: models.gpt(65, layers=8), "*.bias?", 0, 0),
    (lambda: models.resnet18(width=16), "[4-9].body.[03].weight", 0, None),
    (lambda: models.alexnet(width=16, hidden=64), "*.weight", 0, 0.01),
    (lambda: models.alexnet(width=16, hidden=64), "[26].bias", 1, 0),
    (lambda: models.alexnet(width=16, hidden=64), "[04].bias", 0, 0),
    (lambda: models.dcgan(width=32)[0], "[0369].weight", 0, 0.02),
    (lambda: models.dcgan(width=32)[0], "[147].weight", 1, 0.02),
    (lambda: models.dcgan(width=32)[1], "[0269].weight", 0, 0.02),
    (lambda: models.vit(layers=1, width=192), "positions", 0, 0.02),
    (lambda: models.vit(layers=1, width=192), "head.weight", 0, 0),
    (lambda: models.mobilenet_v2(width=0.2), "25.weight", 0, 0.01),
    (lambda: models.squeezenet(), "21.weight", 0, 0.01),
]


@pytest.mark.parametrize(("make", "pattern", "mean", "deviation"), DRAWN)
def test_initial_weights_are_those_of_the_papers(make, pattern, mean, deviation):
    tn.seed(0)
    found = {name: p.numpy() for name, p in make().named_parameters() if fnmatch(name, pattern)}
    assert found
    for name, w in found.items():
        want = np.sqrt(2 / np.prod(w.shape[:-1])) if deviation is None else deviation  # He et al.'s
        assert abs(w.mean() - mean) <= 5 * want / np.sqrt(w.size), name
        assert abs(w.std() - want) <= 5 * want / np.sqrt(2 * w.size), name
