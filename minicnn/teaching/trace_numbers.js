"use strict";
// The numbers of the page of a trace: the data in #data, their format, one number of a layer, term by term, and its
// gradient, from those of the numbers that use it.

const data = JSON.parse(document.getElementById("data").textContent);
const Numbers = data.dtype === "float64" ? Float64Array : Float32Array;
const DIGITS = data.dtype === "float64" ? 17 : 9;        // as many as tell all numbers of the type apart
const dark = matchMedia("screen and (prefers-color-scheme: dark)");
const find = id => document.getElementById(id);
const WINDOWED = ["conv", "separable", "max", "average"];
const GLOBAL = ["global_average", "global_max"];
// Layers whose numbers are each made of one number of an array, or of each of several; and those that change no number.
const MERGING = ["add", "multiply", "concatenate"];
const COPYING = ["flatten", "same", "concatenate", "zero_padding", "up_sampling"];
const ELEMENTWISE = [...COPYING, ...MERGING, "relu", "clipped", "leaky_relu", "elu", "swish", "softplus", "sigmoid",
                     "tanh", "rescaling", "batch_norm"];
const state = { layer: 0, i: 0, j: 0, c: 0, channel: 0 };

// ---- Numbers --------------------------------------------------------------------------------------------------------

function unpack(text) {
  return new Numbers(Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer);
}

// The layout of an array: maps as they are, few numbers in a row, more in a block, without gaps if its sides allow it.
function viewOf(shape) {
  const size = shape.reduce((a, b) => a * b, 1), root = Math.ceil(Math.sqrt(size));
  if (shape.length === 3) return { rows: shape[0], columns: shape[1], channels: shape[2], size, map: true };
  let columns = size <= 16 ? size : root;
  while (size % columns && columns < 2 * root) columns++;
  if (size % columns) columns = root;
  return { rows: Math.ceil(size / columns), columns, channels: 1, size, map: false };
}

function at(array, i, j, c) {
  return array.values[(i * array.view.columns + j) * array.view.channels + c];
}

function extent(values) {
  let low = 0, high = 0;
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  return { low, high, most: Math.max(-low, high) || 1 };
}

function prepare() {
  data.input.field = { size: [1, 1], stride: [1, 1], start: [0, 0] };
  const values = [data.input, ...data.layers];
  values.forEach((array, value) => {
    array.inputs = (array.sources || [Math.max(value - 1, 0)]).map(source => values[source]);
    array.input = array.inputs[0];
    array.takers = [];
    array.view = viewOf(array.shape);
    if (array.packed) array.values = unpack(array.packed);
    else array.values = array.kind === "relu" ? array.input.values.map(x => Math.max(x, 0)) : array.input.values;
    for (const name of ["weights", "depthwise", "bias", "gamma", "beta", "mean", "variance"]) {
      if (array[name]) array[name] = unpack(array[name]);
    }
    array.extent = extent(array.values);
  });
  data.layers.forEach((layer, index) => { layer.index = index; });
  for (const layer of [...data.layers].reverse()) {       // the network adds gradients in this order
    layer.inputs.forEach((input, slot) => input.takers.push({ layer, slot }));
    layer.gradient = gradientsOf(layer);
  }
}

// The gradient of a layer's output: in the page, or passed back by the layer that takes it; null if there is none.
function gradientsOf(layer) {
  const rest = (layer.rest || []).map(unpack), sent = (layer.sent || []).map(unpack);
  for (const taker of layer.takers) {
    const { filters, kind } = taker.layer;
    if (filters && filters.length < unitsOf(taker.layer)) taker.rest = rest.splice(0, 2);
    if (kind === null) taker.sent = sent.shift();
  }
  if (layer.gradient !== "computed") return layer.gradient && unpack(layer.gradient);
  const next = layer.takers[0].layer;
  if (next.kind !== "max") return next.gradient.map((dy, k) => next.kind === "relu" && next.values[k] <= 0 ? 0 : dy);
  const result = new Numbers(layer.view.size), { columns, channels } = next.view;
  next.gradient.forEach((dy, k) => {
    const c = k % channels, [row, column] = largestIn(next, Math.floor(k / channels / columns),
                                                      Math.floor(k / channels) % columns, c);
    result[(row * layer.view.columns + column) * channels + c] += dy;
  });
  return result;
}

const minus = text => text.replaceAll("-", "\u2212");
const short = value => value === 0 ? "0" : minus(Math.abs(value) < 1e5 ? value.toFixed(3) : value.toPrecision(4));
// What is multiplied and added on this page are the numbers that it shows: `exact` is what a reader of `long` has.
const exact = value => Number(value.toPrecision(DIGITS));
const long = value => minus(String(exact(value)));
const power = value => {
  const [digits, exponent] = value.toExponential(1).split("e");
  return `${digits} \u00d7 10${[...String(Number(exponent))].map(d => d === "-" ? "\u207b"
    : "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"[d]).join("")}`;
};
const typeset = text => text.replace(/(\d) x (?=\d)/g, "$1 \u00d7 ").replace(/(^|[\s([])-(?=\d)/g, "$1\u2212");
const times = shape => shape.map(size => size.toLocaleString("en")).join(" \u00d7 ");

// Orange below 0, the page's white or black at 0, blue above: safe for colour-blind readers.
function colour(value, most) {
  const share = Math.max(-1, Math.min(1, value / most)), none = dark.matches ? [20, 26, 32] : [255, 255, 255];
  const end = share < 0 ? dark.matches ? [255, 154, 77] : [213, 94, 0] : dark.matches ? [93, 180, 234] : [0, 94, 160];
  return end.map((part, k) => Math.round(none[k] + (part - none[k]) * Math.abs(share) ** 0.8));
}

// The indices of a number in an array, from its place among all, and back; a size of 1 is repeated.
function indices(shape, place) {
  return [...shape].reverse().map(size => {
    const index = place % size;
    place = (place - index) / size;
    return index;
  }).reverse();
}

const placeIn = (shape, index) => index.reduce((a, k, axis) => a * shape[axis] + Math.min(k, shape[axis] - 1), 0);
const indexOf = (shape, place) => `[${indices(shape, place).join(", ")}]`;         // as its code has it: [0, 1, 2]
const placeOf = (view, i, j, c) => (i * view.columns + j) * view.channels + c;

function coordinates({ columns, channels }, place) {
  const pixel = Math.floor(place / channels);
  return [Math.floor(pixel / columns), pixel % columns, place % channels];
}

// ---- One number, term by term ---------------------------------------------------------------------------------------

// The window of a layer for output (i, j), of one channel: rows of numbers; null is outside the image.
function windowOf(layer, i, j, channel) {
  const [KH, KW] = layer.kernel_size || layer.pool_size, [SH, SW] = layer.strides, [top, , left] = layer.pads;
  const { rows, columns } = layer.input.view, [DH, DW] = layer.dilation_rate || [1, 1], result = [];
  for (let kh = 0; kh < KH; kh++) {
    result.push([]);
    for (let kw = 0; kw < KW; kw++) {
      const row = i * SH - top + kh * DH, column = j * SW - left + kw * DW;
      const inside = row >= 0 && row < rows && column >= 0 && column < columns;
      result[kh].push(inside ? exact(at(layer.input, row, column, channel)) : null);
    }
  }
  return result;
}

// The row and column of the largest number in a window, the first of several.
function largestIn(layer, i, j, channel) {
  const rows = windowOf(layer, i, j, channel), KW = rows[0].length;
  const [SH, SW] = layer.strides, [top, , left] = layer.pads;
  let place = -1, largest = -Infinity;
  rows.flat().forEach((value, k) => { if (value !== null && value > largest) [place, largest] = [k, value]; });
  return [i * SH - top + Math.floor(place / KW), j * SW - left + place % KW];
}

// A convolution may have groups of channels and filters: how many channels a filter has, how many filters there are,
// the first channel of a filter, and the filters in the page that a channel goes into.
const depthOf = layer => layer.depthwise ? layer.depthwise.length / layer.kernel_size[0] / layer.kernel_size[1]
  : layer.input.view.channels / (layer.groups || 1);
const unitsOf = layer => layer.view.map ? layer.view.channels : layer.view.size;
const groupOf = (layer, filter) => Math.floor(filter * (layer.groups || 1) / unitsOf(layer));
const firstOf = (layer, filter) => groupOf(layer, filter) * depthOf(layer);
const membersOf = (layer, channel) => layer.filters.filter(filter => groupOf(layer, filter)
  === Math.floor(channel / depthOf(layer)));

function weightsOf(layer, filter, channel) {
  const [KH, KW] = layer.kernel_size, C = depthOf(layer);
  const first = layer.filters.indexOf(filter) * KH * KW * C;
  return Array.from({ length: KH }, (_, kh) =>
    Array.from({ length: KW }, (_, kw) => exact(layer.weights[first + (kh * KW + kw) * C + channel])));
}

function convTerms(layer) {
  const channels = [], begin = firstOf(layer, state.c);
  for (let c = 0; c < depthOf(layer); c++) {
    const x = windowOf(layer, state.i, state.j, begin + c), w = weightsOf(layer, state.c, c);
    const products = x.map((row, kh) => row.map((value, kw) => (value || 0) * w[kh][kw]));
    channels.push({ x, w, products, sum: products.flat().reduce((a, b) => a + b, 0) });
  }
  return channels;
}

// A separable convolution: window and weights of each channel in between, their sum z, and its product with p[c, f].
function depthwiseOf(layer, q) {
  const [KH, KW] = layer.kernel_size, CM = depthOf(layer);
  return Array.from({ length: KH }, (_, kh) =>
    Array.from({ length: KW }, (_, kw) => exact(layer.depthwise[(kh * KW + kw) * CM + q])));
}

const channelOfDepthwise = (layer, q) => Math.floor(q * layer.input.view.channels / depthOf(layer));
const pointwiseOf = (layer, q, filter) => exact(layer.weights[layer.filters.indexOf(filter) * depthOf(layer) + q]);

function separableTerms(layer) {
  return Array.from({ length: depthOf(layer) }, (_, q) => {
    const channel = channelOfDepthwise(layer, q), x = windowOf(layer, state.i, state.j, channel);
    const w = depthwiseOf(layer, q), p = pointwiseOf(layer, q, state.c);
    const products = x.map((row, kh) => row.map((value, kw) => (value || 0) * w[kh][kw]));
    const z = exact(products.flat().reduce((a, b) => a + b, 0));
    const size = products.flat().reduce((a, b) => a + Math.abs(b), 0) * Math.abs(p);
    return { q, channel, x, w, products, z, p, sum: z * p, size };
  });
}

function denseTerms(layer, unit) {
  const D = layer.input.view.size, first = layer.filters.indexOf(unit) * D;
  return Array.from(layer.input.values, (value, d) => {
    const x = exact(value), w = exact(layer.weights[first + d]);
    return { d, x, w, product: x * w };
  });
}

function summed(layer, products, filter) {
  const bias = layer.bias && exact(layer.bias[filter]), sum = products.reduce((a, b) => a + b, 0);
  const size = products.reduce((a, b) => a + Math.abs(b), Math.abs(bias || 0));
  return { sum, bias, value: sum + (bias || 0), bound: 8 * data.eps * size };
}

// The numbers that a number of an elementwise layer is made of: [{slot, place}], the slot being which of its inputs.
function takenBy(layer, place) {
  const { kind, shape, inputs, constants } = layer;
  if (kind === "multiply") {
    return inputs.map((input, slot) => ({ slot, place: placeIn(input.shape, indices(shape, place)) }));
  }
  if (kind === "concatenate") {
    let c = place % shape.at(-1), slot = 0;
    const pixel = (place - c) / shape.at(-1);
    while (c >= inputs[slot].shape.at(-1)) c -= inputs[slot++].shape.at(-1);
    return [{ slot, place: pixel * inputs[slot].shape.at(-1) + c }];
  }
  if (kind === "zero_padding" || kind === "up_sampling") {
    const [i, j, c] = indices(shape, place), sizes = layer.input.shape;
    const index = kind === "up_sampling" ? [Math.floor(i / constants[0]), Math.floor(j / constants[1]), c]
      : [i - constants[0], j - constants[1], c];
    return index.every((k, axis) => k >= 0 && k < sizes[axis]) ? [{ slot: 0, place: placeIn(sizes, index) }] : [];
  }
  return inputs.map((_, slot) => ({ slot, place }));
}

const taken = (layer, place) => takenBy(layer, place).map(one => exact(layer.inputs[one.slot].values[one.place]));

// The factor and the summand of batch normalization: {gamma, mean, s, beta} of a channel.
function normalizer(layer, channel) {
  const [gamma, beta, mean, variance] = ["gamma", "beta", "mean", "variance"].map(name => exact(layer[name][channel]));
  return { gamma, beta, mean, variance, s: exact(Math.sqrt(variance + layer.constants[0])) };
}

// Layer normalization of the numbers of a pixel, or of a row: {first, x, mean, variance, s, z}.
function normalized(layer, place) {
  const C = layer.shape.at(-1), first = place - place % C;
  const x = Array.from(layer.input.values.subarray(first, first + C), exact), mean = x.reduce((a, b) => a + b, 0) / C;
  const variance = x.reduce((a, b) => a + (b - mean) ** 2, 0) / C, s = Math.sqrt(variance + layer.constants[0]);
  return { first, x, mean, variance, s, z: x.map(one => (one - mean) / s) };
}

// The numbers of a channel, for pooling over the whole image: its largest is the first of several.
function channelOf({ input }, c) {
  const C = input.view.channels, x = Array.from({ length: input.view.size / C }, (_, pixel) => ({
    place: pixel * C + c, value: exact(input.values[pixel * C + c]) }));
  return { x, largest: x.reduce((best, one) => one.value > best.value ? one : best) };
}

// ---- The gradient of a number ---------------------------------------------------------------------------------------

// The windows of the next layer that hold number (i, j): {oh, ow, kh, kw}.
function windowsWith(next, i, j) {
  const [KH, KW] = next.kernel_size || next.pool_size, [SH, SW] = next.strides, [top, , left] = next.pads, found = [];
  const [DH, DW] = next.dilation_rate || [1, 1];
  for (let kh = 0; kh < KH; kh++) {
    for (let kw = 0; kw < KW; kw++) {
      const oh = (i + top - kh * DH) / SH, ow = (j + left - kw * DW) / SW;
      if (Number.isInteger(oh) && Number.isInteger(ow) && oh >= 0 && oh < next.view.rows && ow >= 0
          && ow < next.view.columns) found.push({ oh, ow, kh, kw });
    }
  }
  return found;
}

// The numbers of a layer that use the number (i, j, c) of an input: [{place, factor, size}]. The gradient of the number
// is the sum of their gradients, each multiplied by its factor, the slope dy / dx, which is itself a difference of
// numbers that add up to `size`. Null for a layer that this page does not know.
function usesOf({ layer: next, slot }, layer, i, j, c) {
  const place = placeOf(layer.view, i, j, c);
  if (next.kind === "conv") {
    const C = depthOf(next), size = next.kernel_size[0] * next.kernel_size[1] * C, filters = membersOf(next, c);
    return windowsWith(next, i, j).flatMap(({ oh, ow, kh, kw }) => filters.map(filter => ({
      place: placeOf(next.view, oh, ow, filter), factor: exact(next.weights[next.filters.indexOf(filter) * size
        + (kh * next.kernel_size[1] + kw) * C + c % C]) })));
  }
  if (next.kind === "separable") {                      // by way of each of the channel's filters in between
    const ways = Array.from({ length: depthOf(next) }, (_, q) => q).filter(q => channelOfDepthwise(next, q) === c);
    const weights = ways.map(q => depthwiseOf(next, q));
    return windowsWith(next, i, j).flatMap(({ oh, ow, kh, kw }) => next.filters.map(filter => {
      const products = ways.map((q, m) => weights[m][kh][kw] * pointwiseOf(next, q, filter));
      return { place: placeOf(next.view, oh, ow, filter), factor: products.reduce((a, b) => a + b, 0),
               size: products.reduce((a, b) => a + Math.abs(b), 0) };
    }));
  }
  if (next.kind === "dense") {
    return next.filters.map((unit, k) => ({ place: unit, factor: exact(next.weights[k * layer.view.size + place]) }));
  }
  if (next.kind === "max" || next.kind === "average") {
    return windowsWith(next, i, j).map(({ oh, ow }) => ({ place: placeOf(next.view, oh, ow, c),
      factor: next.kind === "max" ? Number(String(largestIn(next, oh, ow, c)) === String([i, j]))
        : 1 / windowOf(next, oh, ow, c).flat().filter(value => value !== null).length }));
  }
  if (next.kind === "global_average") return [{ place: c, factor: 1 / (layer.view.rows * layer.view.columns) }];
  if (next.kind === "global_max") return [{ place: c, factor: Number(channelOf(next, c).largest.place === place) }];
  if (next.kind === "layer_norm") {
    const { first, s, z } = normalized(next, place);
    return z.map((other, k) => {
      const share = (1 + other * z[place - first]) / z.length, slope = exact(next.gamma[k]) / s;
      return { place: first + k, factor: slope * (Number(first + k === place) - share),
               size: Math.abs(slope) * (1 + Math.abs(share)) };
    });
  }
  if (MERGING.includes(next.kind) || COPYING.includes(next.kind)) {
    const uses = [];
    for (let k = 0; k < next.view.size; k++) {
      const parts = takenBy(next, k);
      if (!parts.some(one => one.slot === slot && one.place === place)) continue;
      const others = next.kind === "multiply" ? taken(next, k).filter((_, other) => other !== slot) : [];
      uses.push({ place: k, factor: others.reduce((a, b) => a * b, 1) });
    }
    return uses;
  }
  const y = exact(next.values[place]), x = exact(layer.values[place]), [a] = next.constants || [];
  const s = 1 / (1 + Math.exp(-x));                     // the layers below have as many numbers out as in
  if (next.kind === "softmax") {
    const count = next.view.map ? next.view.channels : next.shape.at(-1), first = place - place % count;
    return Array.from({ length: count }, (_, k) => exact(next.values[first + k])).map((other, k) => ({ place: first + k,
      factor: other * (Number(first + k === place) - y), size: other * (1 + y) }));
  }
  if (next.kind === "batch_norm") {
    const { gamma, s } = normalizer(next, place % next.shape.at(-1));
    return [{ place, factor: gamma / s }];
  }
  const factor = { relu: y > 0 ? 1 : 0, sigmoid: y * (1 - y), tanh: 1 - y * y, clipped: y > 0 && x < a ? 1 : 0,
                   leaky_relu: y > 0 ? 1 : a, elu: x > 0 ? 1 : a * Math.exp(x), swish: s + x * s * (1 - s),
                   softplus: 1 - Math.exp(-y), rescaling: a }[next.kind];
  const size = { sigmoid: y * (1 + y), tanh: 1 + y * y, swish: s + Math.abs(x) * s * (1 + s),
                 softplus: 1 + Math.exp(-y) }[next.kind];
  return factor === undefined ? null : [{ place, factor, size }];
}

// The gradient of a number as the sum of what a layer that takes it sends back: {taker, terms, rest, sum, bound}, the
// largest product first. Null for a layer that this page does not know, if that is not in the page.
function gradientTerms(taker, layer, i, j, c) {
  const uses = usesOf(taker, layer, i, j, c), place = placeOf(layer.view, i, j, c);
  if (uses === null && !taker.sent) return null;
  const terms = (uses || []).map(one => {
    const dy = exact(taker.layer.gradient[one.place]), factor = exact(one.factor);
    return { ...one, dy, factor, product: dy * factor };
  }).sort((a, b) => Math.abs(b.product) - Math.abs(a.product));
  const [rest, size] = taker.rest ? taker.rest.map(one => exact(one[place]))
    : taker.sent ? [exact(taker.sent[place]), Math.abs(taker.sent[place])] : [0, 0];
  const total = terms.reduce((a, one) => a + Math.abs(one.dy) * (one.size ?? Math.abs(one.factor)), size);
  return { taker, terms, rest, sum: terms.reduce((a, one) => a + one.product, rest), bound: 8 * data.eps * total };
}

// The gradient of a number that several layers take: {parts, sum, bound}, in the order in which the network adds.
function gradientParts(layer, i, j, c) {
  const parts = layer.takers.map(taker => gradientTerms(taker, layer, i, j, c));
  return parts.includes(null) ? null : { parts, sum: parts.reduce((a, one) => a + exact(one.sum), 0),
                                         bound: parts.reduce((a, one) => a + one.bound, 0) };
}

// The gradient of a number of the layer before the loss: {formula, sum, bound}; null for a loss that is not known.
function gradientOfLoss(layer, place) {
  const { operation, terms, target } = data.loss, share = terms === 1 ? "" : ` / ${terms}`;
  if (!operation) {
    const largest = layer.values.reduce((best, value, k) => value > layer.values[best] ? k : best, 0);
    return { formula: "No target was given, so this is where the gradients begin: 1 for the largest number of this "
      + "layer, 0 for the others.", sum: place === largest ? 1 : 0, bound: 0 };
  }
  const z = exact(layer.values[place]), t = exact(target[place]), all = Array.from(layer.values, exact);
  const most = Math.max(...all), powers = all.map(one => Math.exp(one - most)), e = Math.exp(-Math.abs(z));
  const p = { binary_crossentropy: (z >= 0 ? 1 : e) / (1 + e),
              categorical_crossentropy: powers[place] / powers.reduce((a, b) => a + b, 0) }[operation];
  if (p === undefined && operation !== "mean_squared_error") return null;
  return p === undefined
    ? { formula: `2 (y \u2212 t)${share} = 2 (${long(z)} \u2212 ${long(t)})${share}`, sum: 2 * (z - t) / terms,
        bound: 16 * data.eps * (Math.abs(z) + Math.abs(t)) / terms }
    : { formula: terms === 1 ? `p \u2212 t = ${long(p)} \u2212 ${long(t)}`
        : `(p \u2212 t)${share} = (${long(p)} \u2212 ${long(t)})${share}`, sum: (exact(p) - t) / terms,
        bound: 8 * data.eps * (operation === "binary_crossentropy" ? 1 : 1 + most - Math.min(...all)) / terms };
}
