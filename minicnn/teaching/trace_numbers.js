"use strict";
// The numbers of the page of a trace: the data in #data, their format, and one number of a layer, term by term.

const data = JSON.parse(document.getElementById("data").textContent);
const Numbers = data.dtype === "float64" ? Float64Array : Float32Array;
const find = id => document.getElementById(id);
const WINDOWED = ["conv", "max", "average"];
const state = { layer: 0, i: 0, j: 0, c: 0, channel: 0 };

// ---- Numbers --------------------------------------------------------------------------------------------------------

function unpack(text) {
  return new Numbers(Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer);
}

// The layout of an array: maps as they are, anything else row by row in a near square.
function viewOf(shape) {
  const size = shape.reduce((a, b) => a * b, 1);
  if (shape.length === 3) return { rows: shape[0], columns: shape[1], channels: shape[2], size, map: true };
  const columns = Math.ceil(Math.sqrt(size));
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
    before = array;
  }
}

const minus = text => text.replaceAll("-", "\u2212");
const short = value => value === 0 ? "0" : minus(Math.abs(value) < 1e5 ? value.toFixed(3) : value.toPrecision(4));
const long = value => minus(value === 0 ? "0" : Math.abs(value) < 1e-4 || Math.abs(value) >= 1e7
  ? value.toExponential(7) : Number(value.toPrecision(9)).toString());
const brief = value => minus(String(Number(value.toPrecision(5))));
const power = value => {
  const [digits, exponent] = value.toExponential(1).split("e");
  return `${digits} \u00d7 10${[...String(Number(exponent))].map(d => d === "-" ? "\u207b"
    : "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"[d]).join("")}`;
};
const typeset = text => text.replace(/(\d) x (?=\d)/g, "$1 \u00d7 ").replace(/(^|[\s(])-(?=\d)/g, "$1\u2212");
const times = shape => shape.map(size => size.toLocaleString("en")).join(" \u00d7 ");

// Orange below 0, white at 0, blue above: safe for colour-blind readers.
function colour(value, most) {
  const share = Math.max(-1, Math.min(1, value / most)), end = share < 0 ? [213, 94, 0] : [0, 94, 160];
  return end.map(part => Math.round(255 + (part - 255) * Math.abs(share) ** 0.8));
}

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
      result[kh].push(inside ? at(layer.input, row, column, channel) : null);
    }
  }
  return result;
}

function weightsOf(layer, filter, channel) {
  const [KH, KW] = layer.kernel_size, C = layer.input.view.channels;
  const first = layer.filters.indexOf(filter) * KH * KW * C;
  return Array.from({ length: KH }, (_, kh) =>
    Array.from({ length: KW }, (_, kw) => layer.weights[first + (kh * KW + kw) * C + channel]));
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
  return Array.from(layer.input.values, (x, d) => {
    const w = layer.weights[first + d];
    return { d, x, w, product: x * w };
  });
}

function summed(layer, products, filter) {
  const bias = layer.bias[filter], sum = products.reduce((a, b) => a + b, 0);
  const size = products.reduce((a, b) => a + Math.abs(b), Math.abs(bias));
  return { sum, bias, value: sum + bias, bound: 8 * data.eps * size };
}
