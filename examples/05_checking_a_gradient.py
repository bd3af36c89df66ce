# %% [markdown]
# # 5. Checking a gradient
#
# A wrong gradient does not crash: the network still learns, only worse. So gradients are checked: change a number a
# little, observe the loss, compare. This chapter does it by hand, shows two ways in which it misleads, and does it
# well.

# %%
import numpy as np

from minicnn import SGD, Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential, Sigmoid, gradcheck
from minicnn.data.synthetic import phantom
from minicnn.reference import softmax, softmax_gradient
from minicnn.teaching.drawing import BLUE, GREEN, ORANGE, QUIET, figure, legend, note, plot, save

# %% [markdown]
# ## The step size
# The slope of exp at 1 is e. Step by h to both sides, and divide by 2 h:

# %%
def central(f, x, h):
    return (f(x + h) - f(x - h)) / (2 * h)


steps = 10.0 ** -np.arange(0.5, 13, 0.25)
errors = np.array([abs(central(np.exp, 1.0, h) - np.e) for h in steps])

# %% [markdown]
# With a large h the curve bends in between: the error is h^2 / 6 times the third derivative, here e. With a small h the
# two values agree in nearly all of their 16 digits, and the difference is made of what is left: about 1e-16 over h. The
# best step lies near 1e-5, and gives ten digits, not sixteen.

# %%
assert np.isclose(abs(central(np.exp, 1.0, 1e-2) - np.e), 1e-4 / 6 * np.e, rtol=1e-3)
assert 1e-7 < steps[errors.argmin()] < 1e-4 and errors.min() < 1e-9

# %% [markdown]
# ## Misled: a bug that passes
# A layer has many outputs; `dy` says how much each matters. Ones are the obvious choice. But the outputs of a softmax
# always sum to 1, so for ones the right gradient is 0, and a backward that always returns zeros passes. Use random dy.

# %%
x, dy = np.random.default_rng(0).normal(size=(2, 1, 4))


def slopes(dy):
    """Return the gradient of (softmax(x) * dy).sum() by central differences."""
    return np.array([central(lambda v: (softmax(x + v * one) * dy).sum(), 0.0, 1e-5) for one in np.eye(4)])


assert np.allclose(slopes(1), np.zeros(4))                                  # zeros pass, although they are wrong
assert np.allclose(slopes(dy), softmax_gradient(dy, softmax(x)))
assert not np.allclose(slopes(dy), np.zeros(4))                             # caught

# %% [markdown]
# ## Misled: a false alarm
# Now a correct network, on crops of radiographs with a black border. Check all of its 145 parameters, one after
# another, and flag each where the two numbers differ by more than one in a hundred thousand.

# %%
crops = np.stack([phantom.render(seed=1, patient=k, image=k, positive=k == 0, size=32) for k in range(2)]) / 255
framed, t = np.pad(crops[:, 6:14, 10:18, None], ((0, 0), (3, 3), (3, 3), (0, 0))), np.array([[1.0], [0.0]])
model = Sequential([Conv2D(3, 3), ReLU(), MaxPool2D(2), Conv2D(3, 2), ReLU(), Flatten(), Dense(1), Sigmoid()],
                   input_shape=(14, 14, 1), seed=3, dtype="float64")
model.compile(SGD(0.1), loss="binary_crossentropy")


def flagged(h):
    """Return the name of the parameter of each number that a naive check with step h flags."""
    names, gradients = [], model.loss_and_gradients(framed, t)[1]
    for (name, parameter), gradient in zip(model.network.named_parameters().items(), gradients):
        for place, analytic in np.ndenumerate(gradient):
            kept, losses = parameter.value[place], []
            for nudged in (kept + h, kept - h):
                parameter.value[place] = nudged
                losses.append(model.loss_and_gradients(framed, t)[0])
            parameter.value[place] = kept
            if abs((losses[0] - losses[1]) / (2 * h) - analytic) > 1e-5 * max(abs(analytic), 1e-3):
                names.append(name)
    return names


network_steps = 10.0 ** -np.arange(1, 8)
alarms = [flagged(h) for h in network_steps]
assert set(alarms[-1]) == {"conv2d_1/bias"} and len(alarms[1]) > 10

# %% [markdown]
# No step helps: in the black corners the first convolution gives 0 plus a bias of 0, exactly at the kink of ReLU, where
# a step of any size gives half a slope (chapter 4). Larger steps also cross more kinks. `gradcheck` moves the biases
# off 0, records which ReLUs are on and which pixels win, and where a step changes that, it takes a smaller one.

# %%
bugs = [gradcheck(model, x=framed, t=t, step=h).counts["BUG"] for h in network_steps]
report = gradcheck(model, x=framed, t=t, step=1e-2)
print(report)                                       # including the false alarms of a fixed step of 0.01
assert not any(bugs) and report.counts["OK"] == 145 and sum(report.explained.values()) > 10

# %% [markdown]
# And a real bug is found, with its likely cause: a square whose backward forgot the 2 of (x^2)' = 2 x.

# %%
report = gradcheck((np.square, lambda x, dy: x * dy), shape=(3, 3))
print(report.bugs[0])
assert not report and np.isclose(report.bugs[0].ratio, 0.5)

# %%
fig = figure(9.6, 3.6)
left, right = fig.subplots(1, 2)
plot(left, "Error of the slope of exp at 1", "step h")
left.loglog(steps, errors, "o", color=BLUE, markersize=3, label="measured")
left.loglog(steps, steps**2 / 6 * np.e, "--", color=ORANGE, linewidth=1, label="truncation: $h^2$ e / 6")
left.loglog(steps, 2e-16 * np.e / steps, ":", color=GREEN, linewidth=1.5, label="rounding: about $10^{-16}$ e / h")
left.set_ylim(1e-13, 10)
legend(left, loc="upper center")
plot(right, "Correct numbers flagged, of 145", "step h")
right.semilogx(network_steps, [len(names) for names in alarms], "o-", color=ORANGE, label="naive check")
right.semilogx(network_steps, bugs, "s-", color=BLUE, label="gradcheck")
note(right, "the three biases at\nthe kink of ReLU", (1e-5, 3), (1e-5, 22), QUIET)
legend(right, loc="upper left")
save(fig, "05_checking_a_gradient")
