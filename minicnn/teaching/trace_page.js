
// The elements of the page of a trace, and their events. Text is always set as text, never as HTML.

// ---- Elements -------------------------------------------------------------------------------------------------------

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function grid(caption, rows, most, chosen) {
  const box = make("div", null, { class: "scroll" });
  const table = make("table", null, { class: rows[0].length > 3 ? "grid wide" : "grid" });
  table.append(make("caption", caption));
  rows.forEach((row, kh) => {
    const line = table.insertRow();
    row.forEach((value, kw) => {
      const cell = line.insertCell();
      cell.textContent = value === null ? "0" : long(value);
      if (value === null) { cell.className = "outside"; cell.title = "outside the image"; return; }
      const share = colour(value, most);
      cell.style.backgroundColor = `rgb(${share})`;
      cell.style.color = 0.3 * share[0] + 0.59 * share[1] + 0.11 * share[2] < 140 ? "#fff" : "#1c2733";
      if (chosen && chosen(kh, kw)) cell.classList.add("chosen");
    });
  });
  box.append(table);
  return box;
}

function list(heads, rows) {
  const box = make("div", null, { class: "scroll" });
  const table = make("table", null, { class: heads.length > 2 ? "list" : "list short" });
  const head = table.createTHead().insertRow();
  heads.forEach(text => head.append(make("th", text, { scope: "col" })));
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    row.forEach(text => line.insertCell().append(text));
  }
  box.append(table);
  return box;
}

// The sum of what is listed, beside the number of the engine, and whether they are equal up to rounding.
function compare(result, verdict, rows, hand, engine, bound, equal) {
  result.tBodies[0].replaceChildren(...[...rows, ["by hand", hand, "total"], ["engine", engine]].filter(
    ([, value]) => value !== undefined).map(([text, value, kind]) => {
    const row = make("tr", null, kind ? { class: kind } : {});
    row.append(make("th", text, { scope: "row" }), make("td", long(value)));
    return row;
  }));
  verdict.textContent = "";
  if (hand === undefined) return;
  const difference = Math.abs(exact(engine) - exact(hand)), agrees = difference <= bound;
  verdict.classList.toggle("wrong", !agrees);
  const differs = `They differ by ${power(difference)}`;
  verdict.textContent = !agrees ? `${differs}, more than a rounding error.` : difference === 0 ? equal
    : `${differs}, a rounding error in ${data.dtype} (at most ${power(bound)} here).`;
}

function numberInput(label, key, limit, allowed) {
  const id = `pick-${key}`, input = make("input", null, { type: "number", id, min: 1, max: limit, step: 1 });
  input.value = state[key] + 1;
  input.addEventListener("input", () => {
    const value = Number(input.value);
    if (input.value === "" || !Number.isInteger(value) || value < 1 || value > limit) return;
    state[key] = value - 1;
    (allowed || show)();
  });
  return [make("label", label, { for: id }), input];
}

// ---- Maps -----------------------------------------------------------------------------------------------------------

function paint(canvas, array, pixel, boxes) {
  const { rows, columns } = array.view, scale = Math.max(2, Math.floor(480 / Math.max(rows, columns)));
  const small = document.createElement("canvas"), context = canvas.getContext("2d");
  [small.width, small.height, canvas.width, canvas.height] = [columns, rows, columns * scale, rows * scale];
  const image = small.getContext("2d").createImageData(columns, rows);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      if (!array.view.map && i * columns + j >= array.view.size) continue;
      image.data.set([...pixel(i, j), 255], (i * columns + j) * 4);
    }
  }
  small.getContext("2d").putImageData(image, 0, 0);
  canvas.style.maxWidth = `${columns * 3}rem`;          // keeps single numbers small
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  for (const [top, left, height, width] of boxes) {
    for (const [line, ink] of [[9, "#fff"], [4, "#c00040"]]) {
      context.lineWidth = line;
      context.strokeStyle = ink;
      context.strokeRect(left * scale, top * scale, width * scale, height * scale);
    }
  }
}

function caption(canvas, title, text, range) {
  const words = find(`${canvas}-caption`);
  words.replaceChildren(make("b", title), ` ${text}`, ...(range ? [ramp(range)] : []));
  find(canvas).setAttribute("aria-label", `${title} ${text}`);
}

// The colour scale of a map: its lowest number, 0, its highest.
function ramp({ low, high }) {
  const line = make("span", null, { class: "ramp" }), bar = make("i");
  const [from, to] = [colour(low, 1e-9 + Math.max(-low, high)), colour(high, 1e-9 + Math.max(-low, high))];
  const white = high > low ? -low / (high - low) * 100 : 50;
  bar.style.background = `linear-gradient(to right, rgb(${from}), var(--page) ${white}%, rgb(${to}))`;
  line.append(short(low), bar, short(high));
  return line;
}

// The part of an input that a number depends on: {i, j, channel, box}, where box is null for the whole input.
function originOf(layer, slot = 0) {
  const { i, j, c } = state, view = layer.inputs[slot].view;
  if (WINDOWED.includes(layer.kind)) {
    const [KH, KW] = layer.kernel_size || layer.pool_size, [SH, SW] = layer.strides, [top, , left] = layer.pads;
    const [DH, DW] = layer.dilation_rate || [1, 1], conv = firstOf(layer, c) + state.channel;
    return { channel: layer.depthwise ? channelOfDepthwise(layer, conv) : layer.kernel_size ? conv : c,
             box: [i * SH - top, j * SW - left, (KH - 1) * DH + 1, (KW - 1) * DW + 1] };
  }
  if (ELEMENTWISE.includes(layer.kind)) {
    const place = placeOf(layer.view, i, j, c), part = takenBy(layer, place).find(one => one.slot === slot);
    if (!part) return { channel: Math.min(c, view.channels - 1), box: null };
    const [row, column, channel] = coordinates(view, part.place);
    return { i: row, j: column, channel, box: [row, column, 1, 1] };
  }
  const pixel = layer.view.map && ["softmax", "layer_norm"].includes(layer.kind);
  const channel = GLOBAL.includes(layer.kind) ? placeOf(layer.view, i, j, c) : c;
  return { channel: Math.min(channel, view.channels - 1), box: pixel ? [i, j, 1, 1] : null };
}

function showMaps(layer, origin) {
  const map = data.input.view.map;
  find("image-figure").hidden = !map;
  find("maps").classList.toggle("vector", !map);
  if (map) showImage(layer, origin);
  showInputs(layer, origin);
  paint(find("output"), layer, (i, j) => colour(at(layer, i, j, state.c), layer.extent.most),
        [[state.i, state.j, 1, 1]]);
  caption("output", "Output:", layer.view.map ? `${channelWord(layer)} ${state.c + 1} of ${layer.view.channels}.`
    : counted(layer), layer.extent);
}

// What the layer takes: one array, or each that it merges; of those that it concatenates the one with this number.
function showInputs(layer, origin) {
  const several = layer.inputs.length > 1 && layer.kind !== "concatenate", origins = evidence(layer);
  document.querySelectorAll("figure.merged").forEach(figure => figure.remove());
  layer.inputs.forEach((input, slot) => {
    if (slot && !several) return;
    if (layer.kind === "concatenate") [{ slot }] = takenBy(layer, placeOf(layer.view, state.i, state.j, state.c));
    const id = slot && several ? `input-${slot + 1}` : "input", array = origins || layer.inputs[slot];
    const title = layer.inputs.length > 1 ? `Input ${slot + 1}, ${nameOf(array)}:` : "Input:";
    const { channel, box } = slot ? originOf(layer, slot) : origin;
    if (!find(id)) {
      const figure = make("figure", null, { class: "merged" });
      figure.append(make("canvas", null, { id, role: "img" }), make("figcaption", null, { id: `${id}-caption` }));
      find("output").parentElement.before(figure);
    }
    paint(find(id), array, (i, j) => colour(at(array, i, j, channel), array.extent.most), box ? [box] : []);
    caption(id, origins ? "Contributions:" : title, origins
      ? `products summed over the ${input.input.view.channels} channels of the map before ${input.name}.`
      : array.view.map ? `channel ${channel + 1} of ${array.view.channels}.` : counted(array), array.extent);
  });
}

const listed = names => new Intl.ListFormat("en-GB").format(names);        // a, b and c
const nameOf = array => array === data.input ? "the input" : array.name;

const FACTS = { size: "output size", GEMM: "matrix product", field: "receptive field", y: "output y",
                dy: "gradient dy" };
const channelWord = layer => layer.kernel_size ? "filter" : "channel";
function counted({ view, values, index }) {
  const names = namesOf(index);
  if (names) return `${names.map((name, k) => `${name} ${short(values[k])}`).join(", ")}.`;
  if (view.size === 1) return "one number.";
  return `${view.size.toLocaleString("en")} numbers` + (view.rows > 1 ? `, in rows of ${view.columns}.` : ".");
}

// The classes that the numbers of the last layer, or of the one before a folded one, stand for; null if there are none.
function namesOf(index) {
  const { view, type } = data.layers[index] || {}, names = data.classes;
  if (index === undefined || index < data.loss.top || !names.length) return null;
  if (view.size === names.length) return names;
  if (view.size !== 1 || names.length !== 2) return null;
  return [`${type === "Sigmoid" ? "probability" : "logit"} of ${names[1]}`];
}

// For a dense layer after a flattened map: the sum of the products of each pixel of the map.
function evidence(layer) {
  const unit = state.i * layer.view.columns + state.j, flat = layer.input;
  if (layer.kind !== "dense" || flat.kind !== "flatten" || !flat.input.view.map) return null;
  if (!layer.filters.includes(unit)) return null;
  const { rows, columns, channels } = flat.input.view, values = new Float64Array(rows * columns);
  for (const { d, product } of denseTerms(layer, unit)) values[Math.floor(d / channels)] += product;
  return { values, extent: extent(values), view: viewOf([rows, columns, 1]) };
}

function showImage(layer, origin) {
  const array = data.input, grey = array.view.channels !== 3;
  const { low, high } = array.extent, scale = low >= 0 && high <= 1 ? 255 : 255 / (high - low || 1);
  const level = (i, j, c) => Math.round((at(array, i, j, c) - (low < 0 ? low : 0)) * scale);
  let box = null, field = layer.kind === "flatten" ? layer.input.field : layer.field;
  if (field) {
    const [i, j] = layer.kind === "flatten" ? [origin.i, origin.j] : [state.i, state.j];
    box = [field.start[0] + i * field.stride[0], field.start[1] + j * field.stride[1], ...field.size];
  }
  paint(find("image"), array, (i, j) => [0, 1, 2].map(c => level(i, j, grey ? 0 : c)), box ? [box] : []);
  const whole = box && [0, 1].every(axis => box[axis] <= 0 && box[axis] + box[axis + 2] >= array.shape[axis]);
  const size = whole ? "all of it is the receptive field."
    : box ? `receptive field ${times(box.slice(2))} of ${times(array.shape.slice(0, 2))} pixels.` : "";
  caption("image", "Image:", size);
}

// ---- The sum --------------------------------------------------------------------------------------------------------

// The window of a channel, the weights, and their products.
function productRow(channel, { x, w, products }, sum, most) {
  const row = make("div", null, { class: "product" }), [factors, result] = [make("span"), make("span")];
  factors.append(grid("window", x, most.x), make("i", "\u00d7"), grid("weights", w, most.w));
  result.append(make("i", "="), grid(`products, sum ${long(sum)}`, products, most.p));
  row.append(make("b", `channel ${channel + 1}`), factors, result);
  return row;
}

const productsOf = ({ bias }, count) => `${count.toLocaleString("en")} product${count > 1 ? "s" : ""}`
  + (bias ? " and a bias" : "");

function showConv(layer, terms) {
  const channels = convTerms(layer), C = channels.length, first = firstOf(layer, state.c);
  const count = C * channels[0].products.flat().length;
  find("sum-title").textContent = productsOf(layer, count);
  const most = { x: layer.input.extent.most, w: extent(channels.flatMap(one => one.w.flat())).most,
                 p: extent(channels.flatMap(one => one.products.flat())).most };
  if (C > 3) terms.append(...channelBars(channels, layer.groups > 1 ? "group" : "input"));
  for (const c of C > 3 ? [state.channel] : channels.keys()) {
    terms.append(productRow(first + c, channels[c], channels[c].sum, most));
  }
  return { ...summed(layer, channels.flatMap(one => one.products.flat()), state.c), count };
}

// A bar for the sum of the products of each channel, with axes. A click selects the channel.
function channelBars(channels, of) {
  const C = channels.length, { low, high } = extent(channels.map(one => one.sum)), height = high - low || 1;
  const box = make("div", null, { class: "bars" }), plot = make("div", null, { id: "channels", role: "img",
    "aria-label": "The sum of the products of each channel; the field below selects one." });
  const percent = share => `${100 * share}%`;
  const every = [1, 2, 4, 5, 8, 10, 16, 20, 32, 50, 64].find(n => C / n <= 9) || C;
  channels.forEach(({ sum }, c) => {
    const bar = make("i", null, { class: sum < 0 ? "negative" : "", title: `channel ${c + 1}: ${long(sum)}` });
    if (c === state.channel) bar.classList.add("chosen");
    Object.assign(bar.style, { left: percent(c / C), width: percent(1 / C) });
    const mark = make("b");
    mark.style.top = percent((high - Math.max(sum, 0)) / height);
    mark.style.height = percent(Math.abs(sum) / height);
    bar.append(mark);
    plot.append(bar);
    if (c && (c + 1) % every) return;
    const label = make("span", String(c + 1), { class: "below" });
    label.style.left = percent((c + 0.5) / C);
    plot.append(label);
  });
  for (const value of [0, ...[high, low].filter(end => Math.abs(end) > 0.15 * height)]) {      // none on another
    const label = make("span", short(value), { class: "beside" });
    label.style.top = percent((high - value) / height);
    plot.append(label);
  }
  plot.addEventListener("click", event => {
    const area = plot.getBoundingClientRect();
    state.channel = Math.max(0, Math.min(C - 1, Math.floor((event.clientX - area.left) / area.width * C)));
    show();
  });
  box.append(make("p", "Sum of the products of each channel:"), plot, make("p", `channel of the ${of}`));
  const line = make("div", null, { class: "channel" });
  line.append(...numberInput("Products of channel", "channel", C));
  return [box, line];
}

// The rest of a long list, in a sentence.
function others(count, sum, zeros, what) {
  return make("p", `The other ${count.toLocaleString("en")} add up to ${long(sum)}`
    + (zeros ? `; ${zeros.toLocaleString("en")} of all ${what} are 0.` : "."), { class: "equals" });
}

const totalOf = (rows, key) => rows.reduce((a, row) => a + row[key], 0);

// First a sum z of each channel alone, then the products of these with the filter's weights p.
function showSeparable(layer, terms) {
  const rows = separableTerms(layer), one = rows[state.channel], line = make("div", null, { class: "channel" });
  const largest = [...rows].sort((a, b) => Math.abs(b.sum) - Math.abs(a.sum)).slice(0, 8);
  find("sum-title").textContent = productsOf(layer, rows.length);
  terms.append(list(["largest products", "z", "p", "product"], largest.map(({ q, z, p, sum }) =>
    [`z[${q}] p[${q}, ${state.c}]`, long(z), long(p), long(sum)])));
  const count = rows.length - largest.length;
  if (count) terms.append(others(count, totalOf(rows, "sum") - totalOf(largest, "sum")));
  line.append(...numberInput("Channel of z", "channel", rows.length));
  terms.append(line, productRow(one.channel, one, one.z, { x: layer.input.extent.most, w: extent(one.w.flat()).most,
                                                          p: extent(one.products.flat()).most }));
  return { ...summed(layer, rows.map(row => row.sum), state.c), count: rows.length,
           bound: 8 * data.eps * (totalOf(rows, "size") + Math.abs(layer.bias ? layer.bias[state.c] : 0)) };
}

function showDense(layer, terms) {
  const unit = state.i * layer.view.columns + state.j, rows = denseTerms(layer, unit), before = layer.input;
  find("sum-title").textContent = productsOf(layer, rows.length);
  const largest = [...rows].sort((a, b) => Math.abs(b.product) - Math.abs(a.product)).slice(0, 10);
  const from = before.kind === "flatten" && before.input.view.map ? before.input.view : null;
  const place = d => from ? `x[${d}] = map[${Math.floor(d / from.channels / from.columns)}, `
    + `${Math.floor(d / from.channels) % from.columns}, ${d % from.channels}]` : `x[${d}]`;
  terms.append(list(["largest products", "x", "weight", "product"],
    largest.map(({ d, x, w, product }) => [place(d), long(x), long(w), long(product)])));
  const zeros = rows.filter(row => row.x === 0).length, count = rows.length - largest.length;
  if (count) terms.append(others(count, totalOf(rows, "product") - totalOf(largest, "product"), zeros, "inputs"));
  return { ...summed(layer, rows.map(row => row.product), unit), count: rows.length };
}

function showPool(layer, terms) {
  const rows = windowOf(layer, state.i, state.j, state.c), inside = rows.flat().filter(value => value !== null);
  const max = layer.kind === "max", largest = inside.reduce((a, b) => Math.max(a, b), -Infinity);
  const place = rows.flat().indexOf(largest), KW = rows[0].length;
  find("sum-title").textContent = `${max ? "The largest" : "The mean"} of ${inside.length}`;
  const row = make("div", null, { class: "product" });
  row.append(make("b", `channel ${state.c + 1}`), grid("window", rows, layer.input.extent.most,
                                                   max ? (kh, kw) => kh * KW + kw === place : null));
  terms.append(row);
  if (max) return { value: largest, bound: 0 };
  const size = inside.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  return { value: inside.reduce((a, b) => a + b, 0) / inside.length, bound: 8 * data.eps * size };
}

// A button that shows a number of an array; the input of the network is no layer, and has none.
function button(array, place) {
  const code = indexOf(array.shape, place);
  return array === data.input ? `x${code}` : goTo(array, place, `y${code}`);
}

function whereFrom({ input }, place) {
  const line = make("p", "x is ");
  line.append(button(input, place), ` of ${nameOf(input)}.`);
  return line;
}

function showMerged(layer, terms, place) {
  const parts = takenBy(layer, place), values = taken(layer, place), multiply = layer.kind === "multiply";
  const what = `The ${multiply ? "product" : "sum"} of ${values.length} numbers`;
  find("sum-title").textContent = layer.kind !== "concatenate" ? what
    : `The same number, of ${nameOf(layer.inputs[parts[0].slot])}`;
  terms.append(list(["of", "number", "value"], parts.map((one, k) => [nameOf(layer.inputs[one.slot]),
    button(layer.inputs[one.slot], one.place), long(values[k])])));
  const value = values.reduce((a, b) => multiply ? a * b : a + b);
  const size = values.reduce((a, b) => multiply ? a * Math.abs(b) : a + Math.abs(b), Number(multiply));
  return { value, bound: layer.kind === "concatenate" ? 0 : 8 * data.eps * size };
}

function showGlobalPool(layer, terms, channel) {
  const { x, largest } = channelOf(layer, channel), max = layer.kind === "global_max", count = x.length;
  const sum = totalOf(x, "value"), most = [...x].sort((a, b) => b.value - a.value).slice(0, max ? 3 : 8);
  find("sum-title").textContent = `The ${max ? "largest" : "mean"} of ${count.toLocaleString("en")}`;
  terms.append(list([`largest of channel ${channel + 1}`, "x"],
                    most.map(one => [button(layer.input, one.place), long(one.value)])));
  if (max) return { value: largest.value, bound: 0 };
  if (count > most.length) terms.append(others(count - most.length, sum - totalOf(most, "value")));
  terms.append(make("p", `${long(sum)} / ${count}`, { class: "number" }));
  return { value: sum / count, bound: 8 * data.eps * x.reduce((a, one) => Math.max(a, Math.abs(one.value)), 0) };
}

const signs = text => text.replaceAll("\u2212 \u2212", "+ ").replaceAll("+ \u2212", "\u2212 ");

// Batch and layer normalization; the numbers of the latter's mean are those of one pixel, or of one row.
function showNormalized(layer, terms, place) {
  const c = place % layer.shape.at(-1), x = exact(layer.input.values[place]), epsilon = layer.constants[0];
  const pixel = layer.kind === "layer_norm" && normalized(layer, place);
  const { gamma, mean, variance, s, beta } = pixel ? { gamma: exact(layer.gamma[c]), beta: exact(layer.beta[c]),
    mean: exact(pixel.mean), variance: exact(pixel.variance), s: exact(pixel.s) } : normalizer(layer, c);
  find("sum-title").textContent = "A number, normalized";
  if (pixel) {
    const rows = pixel.x.map((value, k) => [button(layer.input, pixel.first + k), long(value)]);
    terms.append(list(["takes", "x"], rows.slice(0, 8)));
    if (rows.length > 8) terms.append(make("p", `and ${rows.length - 8} more.`, { class: "equals" }));
  }
  terms.append(whereFrom(layer, place));
  for (const line of [
    `mean = ${long(mean)}`, `variance = ${long(variance)}`, `s = sqrt(variance + ${epsilon}) = ${long(s)}`,
    "gamma (x \u2212 mean) / s + beta",
    `= ${long(gamma)} (${long(x)} \u2212 ${long(mean)}) / ${long(s)} + ${long(beta)}`,
  ]) {
    terms.append(make("p", signs(line), { class: "number" }));
  }
  return { value: gamma * (x - mean) / s + beta,
           bound: 8 * data.eps * (Math.abs(gamma / s) * (Math.abs(x) + Math.abs(mean)) + Math.abs(beta)) };
}

function showPointwise(layer, terms) {
  const [part] = takenBy(layer, placeOf(layer.view, state.i, state.j, state.c));
  const x = part ? exact(layer.input.values[part.place]) : 0, [a, b] = layer.constants || [];
  const e = Math.exp(-Math.abs(x)), s = (x >= 0 ? 1 : e) / (1 + e), [title, formula, value] = {
    relu: ["The larger of x and 0", `max(${long(x)}, 0)`, Math.max(x, 0)],
    clipped: [`The larger of x and 0, but at most ${a}`, `min(max(${long(x)}, 0), ${a})`, Math.min(Math.max(x, 0), a)],
    leaky_relu: [`x where it is above 0, else ${a} x`, x > 0 ? `x = ${long(x)}` : `${a} (${long(x)})`,
                 x > 0 ? x : a * x],
    elu: [`x where it is above 0, else ${a} (exp(x) \u2212 1)`,
          x > 0 ? `x = ${long(x)}` : `${a} (exp(${long(x)}) \u2212 1)`, x > 0 ? x : a * Math.expm1(x)],
    swish: ["x times its sigmoid", `x s, x = ${long(x)}, s = 1 / (1 + exp(\u2212x)) = ${long(s)}`, x * s],
    softplus: ["A smooth maximum of x and 0", `log(1 + exp(${long(x)}))`, Math.max(x, 0) + Math.log1p(e)],
    rescaling: ["x times a number, and another added", signs(`${a} (${long(x)}) + ${long(b || 0)}`), a * x + b],
    sigmoid: ["A number between 0 and 1", `1 / (1 + exp(\u2212x)), x = ${long(x)}`, s],
    tanh: ["A number between \u22121 and 1", `tanh(${long(x)})`, Math.tanh(x)],
    flatten: [`The same number, ${layer.view.map ? "in another shape" : "flattened"}`,
              `x${indexOf(layer.input.shape, part ? part.place : 0)} = ${long(x)}`, x],
    same: ["The same number", `x = ${long(x)}`, x],
    up_sampling: ["The same number, repeated", `x = ${long(x)}`, x],
    zero_padding: part ? ["The same number", `x = ${long(x)}`, x] : ["Outside the image", "0", 0],
  }[layer.kind];
  find("sum-title").textContent = title;
  terms.append(make("p", formula, { class: "number" }));
  if (layer.kind === "sigmoid" && namesOf(layer.index)) {
    const y = exact(at(layer, state.i, state.j, state.c)), [negative, positive] = data.classes;
    terms.append(make("p", `y is the probability of ${positive}, 1 \u2212 y = ${long(1 - y)} that of ${negative}.`));
  }
  if (part && (isGraph || layer.kind === "up_sampling" || layer.kind === "zero_padding")) {
    terms.append(whereFrom(layer, part.place));
  }
  const bound = layer.kind === "rescaling" ? Math.abs(a * x) + Math.abs(b) : Math.abs(value);
  return { value, bound: [...COPYING, "relu"].includes(layer.kind) ? 0 : 8 * data.eps * bound };
}

function showSoftmax(layer, terms) {
  const { columns, size, map, channels } = layer.view, count = map ? channels : size;
  const read = k => exact(map ? at(layer.input, state.i, state.j, k) : layer.input.values[k]);
  const chosen = map ? state.c : state.i * columns + state.j, z = Array.from({ length: count }, (_, k) => read(k));
  const highest = z.reduce((a, b) => Math.max(a, b)), lowest = z.reduce((a, b) => Math.min(a, b));
  const powers = z.map(one => Math.exp(one - highest)), total = powers.reduce((a, b) => a + b, 0);
  const names = namesOf(layer.index), named = k => names ? names[k] : `x[${k}]`;
  find("sum-title").textContent = `One of ${count} that sum to 1` + (names ? `: ${names[chosen]}` : "");
  terms.append(list([names ? "class" : "number", "x", "exp(x \u2212 largest)", "share of the sum"], [
    ...z.slice(0, 20).map((one, k) => [named(k), long(one), long(powers[k]), long(powers[k] / total)]),
    ["sum", "", long(total), "1"]]));
  const value = powers[chosen] / total;
  return { value, bound: 8 * data.eps * value * (1 + highest - lowest) };
}

// A filter or unit whose weights are not in the page.
function showMissing(layer, terms, filter) {
  find("sum-title").textContent = "Weights not included in this page";
  const what = layer.kernel_size ? "filter" : "unit", paragraph = make("p", null, { id: "missing" });
  paragraph.append(`Included are the ${layer.filters.length} ${what}s with the largest outputs. Select ${what} `);
  for (const other of layer.filters) {
    const button = make("button", String(other + 1), { type: "button" });
    button.addEventListener("click", () => {
      if (layer.kernel_size) state.c = other;
      else [state.i, state.j] = [Math.floor(other / layer.view.columns), other % layer.view.columns];
      show();
    });
    paragraph.append(button);
  }
  terms.append(paragraph);
  return null;
}

function showSum(layer) {
  const terms = find("terms"), filter = layer.kernel_size ? state.c : state.i * layer.view.columns + state.j;
  terms.replaceChildren();
  if (layer.filters && !layer.filters.includes(filter)) return showMissing(layer, terms, filter);
  if (layer.kind === "conv") return showConv(layer, terms);
  if (layer.kind === "separable") return showSeparable(layer, terms);
  if (layer.kind === "dense") return showDense(layer, terms);
  if (layer.kind === "max" || layer.kind === "average") return showPool(layer, terms);
  if (layer.kind === "softmax") return showSoftmax(layer, terms);
  const place = placeOf(layer.view, state.i, state.j, state.c);
  if (MERGING.includes(layer.kind)) return showMerged(layer, terms, place);
  if (GLOBAL.includes(layer.kind)) return showGlobalPool(layer, terms, place);
  if (["batch_norm", "layer_norm"].includes(layer.kind)) return showNormalized(layer, terms, place);
  if (layer.kind !== null) return showPointwise(layer, terms);
  find("sum-title").textContent = layer.custom ? "A custom layer" : `One number of ${layer.name}`;
  terms.append(make("p", layer.custom ? "Its input and output are known, but not its formula."
    : "Its formula stands above. The trace as text, below, works out one of its numbers."));
  return null;
}

function showResult(layer, hand) {
  compare(find("result"), find("verdict"),
    hand && hand.count ? [[`sum of ${hand.count.toLocaleString("en")} products`, hand.sum], ["bias", hand.bias]] : [],
    hand ? hand.value : undefined, at(layer, state.i, state.j, state.c), hand && hand.bound, "They are equal" + (
      layer.packed ? "." : `, as are all ${layer.view.size.toLocaleString("en")} numbers of this layer: compared when `
      + "the page was written."));
}

// ---- The gradient ---------------------------------------------------------------------------------------------------

const PASSED_BACK = {
  separable: "sends its gradient back times w p, the weights on the way, added where there are several ways",
  conv: "sends its gradient back times the weight", dense: "sends its gradient back times the weight",
  max: "sends its gradient to the largest number of its window: times 1 if that is this number, or 0",
  average: "shares its gradient among the numbers of its window",
  relu: "sends its gradient back where y > 0: times 1, or 0", sigmoid: "sends its gradient back times y (1 \u2212 y)",
  tanh: "sends its gradient back times 1 \u2212 y\u00b2", flatten: "is the same number: times 1",
  softmax: "sends its gradient back: that of this number k times y[k] (1 \u2212 y[k]), that of another j times "
    + "\u2212y[j] y[k]", same: "is the same number: times 1",
  add: "sends its gradient back as it is: times 1", multiply: "sends its gradient back times its other factors",
  concatenate: "is the same number: times 1", zero_padding: "is the same number: times 1",
  up_sampling: "is the same number: times 1", rescaling: "sends its gradient back times the scale",
  global_average: "shares its gradient among the numbers of its channel",
  global_max: "sends its gradient to the largest number of its channel: times 1 if that is this number, or 0",
  clipped: "sends its gradient back where y is between its limits: times 1, or 0",
  leaky_relu: "sends its gradient back times 1 where y > 0, else times the slope",
  elu: "sends its gradient back times 1 where x > 0, else times alpha exp(x)",
  swish: "sends its gradient back times s + x s (1 \u2212 s), where s is the sigmoid of x",
  softplus: "sends its gradient back times 1 \u2212 exp(\u2212y)",
  batch_norm: "sends its gradient back times gamma / s",
  layer_norm: "sends its gradient back: that of this number k times gamma[k] / s (1 \u2212 (1 + z[k]\u00b2) / C), "
    + "that of another j times \u2212gamma[j] / s (1 + z[j] z[k]) / C",
};

function showGradient(layer) {
  const { i, j, c } = state, place = placeOf(layer.view, i, j, c), terms = find("gradient-terms");
  const code = `dy${indexOf(layer.shape, place)}`;
  terms.replaceChildren();
  find("gradient-title").textContent = `Its gradient, ${code}`;
  if (!layer.gradient) {
    const [, reason] = layer.facts.find(([word]) => word === "dy");
    terms.append(make("p", `${reason[0].toUpperCase()}${reason.slice(1)}.`));
    if (layer.index === data.loss.top + 1) terms.append(link("That of the input is ", layer.input, place));
    compare(find("gradient-result"), find("gradient-verdict"), [], undefined, undefined);
    return;
  }
  const engine = layer.gradient[place];
  terms.append(make("p", engine === 0 ? `It is 0: a small change of this number does not change ${data.loss.of}.`
    : `If this number grows by a small h, ${data.loss.of} changes by ${engine === 1 ? "" : `${long(engine)} `}h.`));
  const largest = layer.gradient.reduce((best, dy, k) => Math.abs(dy) > Math.abs(layer.gradient[best]) ? k : best, 0);
  if (largest !== place) terms.append(link("The largest of this layer is ", layer, largest));
  const hand = layer.index === data.loss.top ? gradientOfLoss(layer, place) : gradientParts(layer, i, j, c);
  if (hand && hand.formula) {
    const { operation, top } = data.loss, last = data.layers.length - 1;
    if (operation) terms.append(make("p", `It comes from the loss, ${operation.replaceAll("_", " ")}, with the target t`
      + (last > top ? ` and p = ${data.layers[last].name} of y:` : ":")));
    terms.append(make("p", hand.formula, { class: operation ? "number" : "" }));
  } else if (hand) terms.append(...several(hand), ...hand.parts.flatMap(part => uses(part)));
  else terms.append(make("p", "It comes from a layer or loss whose gradient this page does not take apart."));
  const parts = hand && hand.parts || [];
  compare(find("gradient-result"), find("gradient-verdict"),
          parts.length > 1 ? parts.map(part => [`from ${fromOf(part)}`, part.sum]) : [],
          hand ? hand.sum : undefined, engine, hand && hand.bound, "They are equal.");
}

// Where several layers take a number, what comes back from each is added.
function several({ parts }) {
  return parts.length === 1 ? [] : [make("p", `It is taken ${parts.length} times. The network adds what comes back, `
    + "from the last layer that takes it to the first:")];
}

// A layer that sends back a part of a gradient; one that takes the same array twice sends back two.
function fromOf({ taker: { layer, slot } }) {
  const twice = layer.inputs.filter(input => input === layer.inputs[slot]).length > 1;
  return layer.name + (twice ? `, input ${slot + 1}` : "");
}

// What uses a number, and sends back its own gradient times a factor. A button goes there: the next link of the chain.
function uses({ taker, terms, rest }) {
  const next = taker.layer, most = 8, count = terms.length, shown = terms.slice(0, most);
  if (taker.sent) return [make("p", `${next.name} sends back ${long(rest)}, computed when the page was written.`)];
  const of = (next.filters || []).length && membersOf(next, state.c).length;
  const missing = taker.rest ? unitsOf(next) / (next.groups || 1) - of : 0;
  const all = missing && of ? count / of * (missing + of) : count;
  if (!count && !missing) return [make("p", `No number of ${next.name} uses it.`)];
  const rows = shown.map(one => [goTo(next, one.place), long(one.dy), long(one.factor), long(one.product)]);
  const factor = ["conv", "dense"].includes(next.kind) ? "weight" : "factor";
  const who = all === 1 ? `One number of ${next.name} uses it, and` : `${all.toLocaleString("en")} numbers of `
    + `${next.name} use it. Each`;
  const elements = !count ? [] : [
    make("p", `${who} ${PASSED_BACK[next.kind]}.` + (all > 1 ? " The products are added." : "")),
    list([`${count > most ? "largest, " : ""}of ${next.name}`, "gradient", factor, "product"], rows)];
  if (count > most) {
    const zeros = terms.filter(one => one.product === 0).length;
    elements.push(others(count - most, totalOf(terms.slice(most), "product"), zeros, "products"));
  }
  if (missing) {
    const what = next.kernel_size ? "filters" : "units";
    elements.push(make("p", `The ${missing} ${what} of ${next.name} whose weights are not in this page add `
      + `${long(rest)}, computed when it was written.`, { class: "equals" }));
  }
  return elements;
}

function link(text, layer, place) {
  const line = make("p", text);
  line.append(goTo(layer, place), ` = ${long(layer.gradient[place])}.`);
  return line;
}

// A button that chooses a number, and shows its layer from the top.
function goTo(layer, place, text = `dy${indexOf(layer.shape, place)}`) {
  const button = make("button", text, { type: "button", title: `go to ${layer.name}` });
  button.addEventListener("click", () => {
    chooseLayer(layer.index, coordinates(layer.view, place));
    find("lab").scrollIntoView({ block: "start" });
    find("name").focus({ preventScroll: true });
  });
  return button;
}

// ---- Connections ----------------------------------------------------------------------------------------------------

const isGraph = data.layers.some(layer => layer.sources);
const ROW = 2.75;         // the height of a row of the list in rem, as in the style
const SIGNS = { add: "+", multiply: "\u00d7", concatenate: "\u2016" };

// The column of each array beside the list: an array keeps its own until the last layer has taken it.
function columnsOf() {
  const columns = [], busy = [];          // busy[column] is the last layer that takes the array there
  [data.input, ...data.layers].forEach((array, row) => {
    const free = busy.findIndex(last => last <= row);
    columns.push(free < 0 ? busy.length : free);
    busy[columns[row]] = Math.max(row, ...array.takers.map(taker => taker.layer.index + 1));
  });
  return columns;
}

// The connections of a graph: a line for each array that a layer takes, down its column and over to that of the layer.
function drawConnections() {
  const strip = find("strip"), columns = columnsOf(), place = row => [0.75 + columns[row], (row + 0.5) * ROW];
  const draw = (tag, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text || "";
    return element;
  };
  const width = Math.max(...columns) + 1.5, height = columns.length * ROW;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  Object.assign(svg.style, { width: `${width}rem`, height: `${height}rem` });
  strip.style.setProperty("--lines", `${width}rem`);
  data.layers.forEach((layer, index) => layer.inputs.forEach(input => {
    const from = input === data.input ? -1 : input.index, [x, y] = place(from + 1), [to, end] = place(index + 1);
    const curve = `C${x} ${end - ROW / 3} ${to} ${end - ROW * 2 / 3} ${to} ${end}`;
    svg.append(draw("path", { d: `M${x} ${y}V${end - ROW}${curve}`, "data-from": from, "data-to": index }));
  }));
  columns.forEach((_, row) => {
    const sign = row ? SIGNS[data.layers[row - 1].kind] : undefined, [x, y] = place(row);
    svg.append(draw("circle", { cx: x, cy: y, r: sign ? 0.55 : 0.3, "data-to": row - 1 }));
    if (sign) svg.append(draw("text", { x, y: y + 0.28 }, sign));
  });
  strip.prepend(svg, make("div", "input"));
  strip.children[1].append(make("small", times(data.input.shape)));
  find("lab").classList.add("graph");
}

// ---- Selection ------------------------------------------------------------------------------------------------------

function showPick(layer) {
  const { rows, columns, channels, size, map } = layer.view, pick = find("pick");
  const kept = document.activeElement && document.activeElement.id;
  state.unit = state.i * columns + state.j;
  pick.replaceChildren(...(map
    ? [...numberInput(layer.kernel_size ? "Filter" : "Channel", "c", channels),
       ...numberInput("Row", "i", rows), ...numberInput("Column", "j", columns)]
    : numberInput(layer.kind === "dense" ? "Unit" : "Number", "unit", size,
                  () => choose(Math.floor(state.unit / columns), state.unit % columns))));
  return kept;
}

function show() {
  const layer = data.layers[state.layer];
  const kept = showPick(layer);
  state.channel = Math.min(state.channel, depthOf(layer) - 1);
  const origin = originOf(layer);
  showMaps(layer, origin);
  const place = placeOf(layer.view, state.i, state.j, state.c);
  find("selected").textContent = `y${indexOf(layer.shape, place)} = ${long(layer.values[place])}`;
  find("sum").classList.toggle("broad", layer.kernel_size !== undefined);
  showResult(layer, showSum(layer));
  showGradient(layer);
  if (kept && document.activeElement.id !== kept && find(kept)) find(kept).focus();
}

function choose(i, j) {
  const { rows, columns, size, map } = data.layers[state.layer].view;
  state.i = Math.max(0, Math.min(rows - 1, i));
  state.j = Math.max(0, Math.min(columns - 1, j));
  const last = size - 1;
  if (!map && state.i * columns + state.j > last) [state.i, state.j] = [Math.floor(last / columns), last % columns];
  show();
}

function chooseLayer(number, place) {
  const layer = data.layers[number], before = data.layers[state.layer];
  const same = number !== state.layer && String(layer.shape) === String(before.shape);
  state.layer = number;
  if (place) [state.i, state.j, state.c] = place;
  else if (!same) {
    const unit = layer.view.map ? null : layer.start.reduce((a, index, axis) => a * layer.shape[axis] + index, 0);
    [state.i, state.j, state.c] = layer.view.map ? layer.start
      : [Math.floor(unit / layer.view.columns), unit % layer.view.columns, 0];
  }
  const shapes = `${listed(layer.inputs.map(input => times(input.shape)))} \u2192 ${times(layer.shape)}`;
  const takes = isGraph ? ` of ${listed(layer.inputs.map(nameOf))}` : "";
  find("name").replaceChildren(layer.name, " ", make("span", `${layer.type}${takes}, ${shapes}`));
  find("formula").textContent = typeset(layer.facts.find(([word]) => word === "formula")[1]);
  const facts = layer.facts.filter(([word]) => !["formula", "takes"].includes(word));
  find("facts").replaceChildren(...facts.map(([word, text]) => {
    const row = make("div");
    row.append(make("dt", FACTS[word] || word), make("dd", typeset(text)));
    return row;
  }));
  const label = find("layers").querySelectorAll("label")[number], strip = find("strip");
  label.firstElementChild.checked = true;
  strip.scrollLeft = label.offsetLeft - (strip.clientWidth - label.clientWidth) / 2;
  const [top, row] = [label.offsetTop, label.offsetHeight];        // with the one above and the one below
  strip.scrollTop = Math.min(Math.max(strip.scrollTop, top + 2 * row - strip.clientHeight), top - row);
  for (const line of strip.querySelectorAll("path, circle")) {        // those that end or begin at the layer
    line.classList.toggle("chosen", [line.dataset.from, line.dataset.to].includes(String(number)));
  }
  if (layer.kernel_size && layer.filters.includes(state.c)) {
    const sums = (layer.depthwise ? separableTerms : convTerms)(layer).map(one => Math.abs(one.sum));
    state.channel = sums.indexOf(Math.max(...sums));
  }
  show();
}

function listen() {
  data.layers.forEach((layer, number) => {
    const label = make("label"), radio = make("input", null, { type: "radio", name: "layer", value: number });
    radio.addEventListener("change", () => chooseLayer(number));
    const takes = layer.sources ? `, takes ${listed(layer.inputs.map(nameOf))}` : "";
    label.append(radio, layer.name, make("small", times(layer.shape) + takes));
    if (takes) label.title = `${layer.name}${takes}`;
    find("strip").append(label);
  });
  if (isGraph) drawConnections();
  dark.addEventListener("change", show);
  const output = find("output");
  output.addEventListener("click", event => {
    const box = output.getBoundingClientRect(), { rows, columns } = data.layers[state.layer].view;
    choose(Math.floor((event.clientY - box.top) / box.height * rows),
           Math.floor((event.clientX - box.left) / box.width * columns));
  });
  output.addEventListener("keydown", event => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    choose(state.i + step[0], state.j + step[1]);
  });
}

prepare();
listen();
find("lab").hidden = false;
find("text").open = false;
chooseLayer(0);
