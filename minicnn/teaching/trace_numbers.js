"use strict";
// The numbers of the page of a trace: the data in #data, their format, one number of a layer, term by term, and its
// gradient, from those of the numbers that use it.

const data = JSON.parse(document.getElementById("data").textContent);
const Numbers = data.dtype === "float64" ? Float64Array : Float32Array;
const DIGITS = data.dtype === "float64" ? 17 : 9;        // as many as tell all numbers of the type apart
const dark = matchMedia("screen and (prefers-color-scheme: dark)");
const find = id => document.getElementById(id);
const WINDOWED = ["conv", "max", "average"];
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
  let before = data.input;
  for (const array of [data.input, ...data.layers]) {
    array.input = before;
    array.view = viewOf(array.shape);
    if (array.packed) array.values = unpack(array.packed);
    else array.values = array.kind === "relu" ? before.values.map(x => Math.max(x, 0)) : before.values;
    if (array.weights) { array.weights = unpack(array.weights); array.bias = unpack(array.bias); }
    array.extent = extent(array.values);
    before.next = array;
    before = array;
  }
  data.input.next = undefined;
  data.layers.forEach((layer, index) => { layer.index = index; });
  for (const layer of [...data.layers].reverse()) layer.gradient = gradientsOf(layer);
}

// The gradient of a layer's output: in the page, or passed back by the layer after it; null if there is none.
function gradientsOf(layer) {
  if (layer.rest) layer.rest = layer.rest.map(unpack);
  if (layer.gradient !== "computed") return layer.gradient && unpack(layer.gradient);
  const next = layer.next;
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

// The place of a number in an array as its code has it, from its place among all: 12 -> [0, 1, 2].
function indexOf(shape, place) {
  return `[${[...shape].reverse().map(size => {
    const index = place % size;
    place = (place - index) / size;
    return index;
  }).reverse().join(", ")}]`;
}

const placeOf = (view, i, j, c) => (i * view.columns + j) * view.channels + c;

// ---- One number, term by term ---------------------------------------------------------------------------------------

// The window of a layer for output (i, j), of one channel: rows of numbers; null is outside the image.
function windowOf(layer, i, j, channel) {
  const [KH, KW] = layer.kernel_size || layer.pool_size, [SH, SW] = layer.strides, [top, , left] = layer.pads;
  const { rows, columns } = layer.input.view, result = [];
  for (let kh = 0; kh < KH; kh++) {
    result.push([]);
    for (let kw = 0; kw < KW; kw++) {
      const row = i * SH - top + kh, column = j * SW - left + kw;
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

function weightsOf(layer, filter, channel) {
  const [KH, KW] = layer.kernel_size, C = layer.input.view.channels;
  const first = layer.filters.indexOf(filter) * KH * KW * C;
  return Array.from({ length: KH }, (_, kh) =>
    Array.from({ length: KW }, (_, kw) => exact(layer.weights[first + (kh * KW + kw) * C + channel])));
}

function convTerms(layer) {
  const channels = [];
  for (let c = 0; c < layer.input.view.channels; c++) {
    const x = windowOf(layer, state.i, state.j, c), w = weightsOf(layer, state.c, c);
    const products = x.map((row, kh) => row.map((value, kw) => (value || 0) * w[kh][kw]));
    channels.push({ x, w, products, sum: products.flat().reduce((a, b) => a + b, 0) });
  }
  return channels;
}

function denseTerms(layer, unit) {
  const D = layer.input.view.size, first = layer.filters.indexOf(unit) * D;
  return Array.from(layer.input.values, (value, d) => {
    const x = exact(value), w = exact(layer.weights[first + d]);
    return { d, x, w, product: x * w };
  });
}

function summed(layer, products, filter) {
  const bias = exact(layer.bias[filter]), sum = products.reduce((a, b) => a + b, 0);
  const size = products.reduce((a, b) => a + Math.abs(b), Math.abs(bias));
  return { sum, bias, value: sum + bias, bound: 8 * data.eps * size };
}

// ---- The gradient of a number ---------------------------------------------------------------------------------------

// The windows of the next layer that hold number (i, j): {oh, ow, kh, kw}.
function windowsWith(next, i, j) {
  const [KH, KW] = next.kernel_size || next.pool_size, [SH, SW] = next.strides, [top, , left] = next.pads, found = [];
  for (let kh = 0; kh < KH; kh++) {
    for (let kw = 0; kw < KW; kw++) {
      const oh = (i + top - kh) / SH, ow = (j + left - kw) / SW;
      if (Number.isInteger(oh) && Number.isInteger(ow) && oh >= 0 && oh < next.view.rows && ow >= 0
          && ow < next.view.columns) found.push({ oh, ow, kh, kw });
    }
  }
  return found;
}

// The numbers of the next layer that use the number (i, j, c) of a layer: [{place, factor, size}]. The gradient of the
// number is the sum of their gradients, each multiplied by its factor, the slope dy / dx, which is itself a difference of
// numbers that add up to `size`. Null for a custom layer.
function usesOf(layer, i, j, c) {
  const next = layer.next, place = placeOf(layer.view, i, j, c);
  if (next.kind === "conv") {
    const C = layer.view.channels, size = next.kernel_size[0] * next.kernel_size[1] * C;
    return windowsWith(next, i, j).flatMap(({ oh, ow, kh, kw }) => next.filters.map((filter, k) => ({
      place: placeOf(next.view, oh, ow, filter),
      factor: exact(next.weights[k * size + (kh * next.kernel_size[1] + kw) * C + c]) })));
  }
  if (next.kind === "dense") {
    return next.filters.map((unit, k) => ({ place: unit, factor: exact(next.weights[k * layer.view.size + place]) }));
  }
  if (next.kind === "max" || next.kind === "average") {
    return windowsWith(next, i, j).map(({ oh, ow }) => ({ place: placeOf(next.view, oh, ow, c),
      factor: next.kind === "max" ? Number(String(largestIn(next, oh, ow, c)) === String([i, j]))
        : 1 / windowOf(next, oh, ow, c).flat().filter(value => value !== null).length }));
  }
  const y = exact(next.values[place]);                  // the layers below have as many numbers out as in
  if (next.kind === "softmax") {
    const count = next.view.map ? next.view.channels : next.shape.at(-1), first = place - place % count;
    return Array.from({ length: count }, (_, k) => exact(next.values[first + k])).map((other, k) => ({ place: first + k,
      factor: other * (Number(first + k === place) - y), size: other * (1 + y) }));
  }
  const factor = { relu: y > 0 ? 1 : 0, sigmoid: y * (1 - y), tanh: 1 - y * y, flatten: 1, same: 1 }[next.kind];
  return factor === undefined ? null : [{ place, factor, size: { sigmoid: y * (1 + y), tanh: 1 + y * y }[next.kind] }];
}

// The gradient of a number as a sum of products: {terms, rest, sum, bound}, the largest product first.
function gradientTerms(layer, i, j, c) {
  const uses = usesOf(layer, i, j, c), place = placeOf(layer.view, i, j, c);
  if (uses === null) return null;
  const terms = uses.map(one => {
    const dy = exact(layer.next.gradient[one.place]), factor = exact(one.factor);
    return { ...one, dy, factor, product: dy * factor };
  }).sort((a, b) => Math.abs(b.product) - Math.abs(a.product));
  const [rest, size] = layer.rest ? layer.rest.map(one => exact(one[place])) : [0, 0];
  const total = terms.reduce((a, one) => a + Math.abs(one.dy) * (one.size ?? Math.abs(one.factor)), size);
  return { terms, rest, sum: terms.reduce((a, one) => a + one.product, rest), bound: 8 * data.eps * total };
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
