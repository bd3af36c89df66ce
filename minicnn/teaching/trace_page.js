
// The elements of the page of a trace, and their events. Text is always set as text, never as HTML.

// ---- Elements -------------------------------------------------------------------------------------------------------

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function grid(caption, rows, most, chosen) {
  const table = make("table", null, { class: "grid" });
  table.append(make("caption", caption));
  rows.forEach((row, kh) => {
    const line = table.insertRow();
    row.forEach((value, kw) => {
      const cell = line.insertCell();
      cell.textContent = value === null ? "0" : short(value);
      if (value === null) { cell.className = "outside"; cell.title = "outside the image"; return; }
      const share = colour(value, most);
      cell.style.backgroundColor = `rgb(${share})`;
      if (share[0] + share[1] + share[2] < 380) cell.style.color = "#fff";
      if (chosen && chosen(kh, kw)) cell.classList.add("chosen");
    });
  });
  return table;
}

function list(heads, rows) {
  const table = make("table", null, { class: "list" }), head = table.createTHead().insertRow();
  heads.forEach(text => head.append(make("th", text, { scope: "col" })));
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    row.forEach(text => { line.insertCell().textContent = text; });
  }
  return table;
}

function numberInput(label, key, limit, allowed) {
  const id = `pick-${key}`, input = make("input", null, { type: "number", id, min: 0, max: limit - 1, step: 1 });
  input.value = state[key];
  input.addEventListener("input", () => {
    const value = Number(input.value);
    if (input.value === "" || !Number.isInteger(value) || value < 0 || value >= limit) return;
    state[key] = value;
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
  bar.style.background = `linear-gradient(to right, rgb(${from}), #fff ${white}%, rgb(${to}))`;
  line.append(short(low), bar, short(high));
  return line;
}

// The part of the input that a number depends on: {i, j, channel, box}, where box is null for the whole input.
function originOf(layer) {
  const { i, j, c } = state, view = layer.input.view;
  if (WINDOWED.includes(layer.kind)) {
    const [KH, KW] = layer.kernel_size || layer.pool_size, [SH, SW] = layer.strides, [top, , left] = layer.pads;
    return { channel: layer.kind === "conv" ? state.channel : c, box: [i * SH - top, j * SW - left, KH, KW] };
  }
  if (layer.kind === "flatten") {
    const unit = i * layer.view.columns + j, channel = unit % view.channels, pixel = (unit - channel) / view.channels;
    const row = Math.floor(pixel / view.columns), column = pixel % view.columns;
    return { i: row, j: column, channel, box: [row, column, 1, 1] };
  }
  const everything = layer.kind === "dense" || layer.kind === null || (layer.kind === "softmax" && !layer.view.map);
  return { channel: Math.min(c, view.channels - 1), box: everything ? null : [i, j, 1, 1] };
}

function showMaps(layer, origin) {
  const input = layer.input, map = data.input.view.map;
  find("image-figure").hidden = !map;
  find("maps").classList.toggle("vector", !map);
  if (map) showImage(layer, origin);
  const origins = evidence(layer), shown = origins || input;
  paint(find("input"), shown, (i, j) => colour(at(shown, i, j, origin.channel), shown.extent.most),
        origin.box ? [origin.box] : []);
  caption("input", origins ? "Contributions:" : "Input:", origins
    ? `products summed over the ${input.input.view.channels} channels of the map before ${input.name}.` : input.view.map
      ? `channel ${origin.channel} of ${input.view.channels}.` : counted(input.view.size), shown.extent);
  paint(find("output"), layer, (i, j) => colour(at(layer, i, j, state.c), layer.extent.most),
        [[state.i, state.j, 1, 1]]);
  caption("output", "Output:", layer.view.map ? `${channelWord(layer)} ${state.c} of ${layer.view.channels}.`
    : counted(layer.view.size), layer.extent);
}

const channelWord = layer => layer.kind === "conv" ? "filter" : "channel";
const counted = size => size === 1 ? "one number." : `${size.toLocaleString("en")} numbers, row by row.`;

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
  const size = box ? `receptive field ${times(box.slice(2))} of ${times(array.shape.slice(0, 2))} pixels.` : "";
  caption("image", "Image:", size);
}

// ---- The sum --------------------------------------------------------------------------------------------------------

function showConv(layer, terms) {
  const channels = convTerms(layer), C = channels.length;
  const count = C * channels[0].products.flat().length;
  find("sum-title").textContent = `${count.toLocaleString("en")} products and a bias`;
  const most = { x: layer.input.extent.most, w: extent(channels.flatMap(one => one.w.flat())).most,
                 p: extent(channels.flatMap(one => one.products.flat())).most };
  if (C > 3) terms.append(...channelBars(channels));
  for (const c of C > 3 ? [state.channel] : channels.keys()) {
    const { x, w, products, sum } = channels[c], row = make("div", null, { class: "product" });
    const [factors, result] = [make("span"), make("span")];
    factors.append(grid("window", x, most.x), make("i", "\u00d7"), grid("weights", w, most.w));
    result.append(make("i", "="), grid("products", products, most.p), make("small", `sum ${long(sum)}`));
    row.append(make("b", `channel ${c}`), factors, result);
    terms.append(row);
  }
  return { ...summed(layer, channels.flatMap(one => one.products.flat()), state.c), count };
}

// A bar for the sum of the products of each channel. A click selects the channel.
function channelBars(channels) {
  const canvas = make("canvas", null, { id: "channels", role: "img",
    "aria-label": "The sum of the products of each channel; the field below selects one." });
  const context = canvas.getContext("2d"), width = Math.max(24, Math.floor(1440 / channels.length)), height = 220;
  [canvas.width, canvas.height] = [width * channels.length, height];
  const most = extent(channels.map(one => one.sum)).most;
  channels.forEach(({ sum }, c) => {
    if (c === state.channel) { context.fillStyle = "#e9e9e9"; context.fillRect(c * width, 0, width, height); }
    context.fillStyle = sum < 0 ? "#d55e00" : "#005ea0";
    const size = Math.abs(sum) / most * (height / 2 - 8);
    context.fillRect(c * width + 4, sum < 0 ? height / 2 : height / 2 - size, width - 8, Math.max(size, 1));
  });
  context.fillStyle = "#666";
  context.fillRect(0, height / 2 - 1, canvas.width, 2);
  canvas.addEventListener("click", event => {
    const box = canvas.getBoundingClientRect();
    state.channel = Math.min(channels.length - 1, Math.floor((event.clientX - box.left) / box.width * channels.length));
    show();
  });
  const line = make("div", null, { class: "channel" });
  line.append(...numberInput("Products of channel", "channel", channels.length));
  return [make("p", "Sum of the products of each channel:", { class: "quiet" }), canvas, line];
}

function showDense(layer, terms) {
  const unit = state.i * layer.view.columns + state.j, rows = denseTerms(layer, unit), before = layer.input;
  find("sum-title").textContent = `${rows.length.toLocaleString("en")} products and a bias`;
  const largest = [...rows].sort((a, b) => Math.abs(b.product) - Math.abs(a.product)).slice(0, 10);
  const from = before.kind === "flatten" && before.input.view.map ? before.input.view : null;
  const place = d => from ? `x[${d}] = map[${Math.floor(d / from.channels / from.columns)}, `
    + `${Math.floor(d / from.channels) % from.columns}, ${d % from.channels}]` : `x[${d}]`;
  terms.append(list(["largest products", "x", "weight", "product"],
    largest.map(({ d, x, w, product }) => [place(d), brief(x), brief(w), brief(product)])));
  const zeros = rows.filter(row => row.x === 0).length, others = rows.length - largest.length;
  const rest = rows.reduce((a, row) => a + row.product, 0) - largest.reduce((a, row) => a + row.product, 0);
  if (others > 0) {
    terms.append(make("p", `The other ${others.toLocaleString("en")} add up to ${long(Number(rest.toPrecision(7)))}; `
      + `${zeros.toLocaleString("en")} of all inputs are 0.`, { class: "equals" }));
  }
  return { ...summed(layer, rows.map(row => row.product), unit), count: rows.length };
}

function showPool(layer, terms) {
  const rows = windowOf(layer, state.i, state.j, state.c), inside = rows.flat().filter(value => value !== null);
  const max = layer.kind === "max", largest = inside.reduce((a, b) => Math.max(a, b), -Infinity);
  const place = rows.flat().indexOf(largest), KW = rows[0].length;
  find("sum-title").textContent = `${max ? "The largest" : "The mean"} of ${inside.length}`;
  const row = make("div", null, { class: "product" });
  row.append(make("b", `channel ${state.c}`), grid("window", rows, layer.input.extent.most,
                                                   max ? (kh, kw) => kh * KW + kw === place : null));
  terms.append(row);
  if (max) return { value: largest, bound: 0 };
  const size = inside.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  return { value: inside.reduce((a, b) => a + b, 0) / inside.length, bound: 8 * data.eps * size };
}

function showPointwise(layer, terms, origin) {
  const x = layer.kind === "flatten" ? at(layer.input, origin.i, origin.j, origin.channel)
    : at(layer.input, state.i, state.j, state.c);
  const e = Math.exp(-Math.abs(x)), [title, formula, value] = {
    relu: ["The larger of x and 0", `max(${long(x)}, 0)`, Math.max(x, 0)],
    sigmoid: ["A number between 0 and 1", `1 / (1 + exp(\u2212x)), x = ${long(x)}`, (x >= 0 ? 1 : e) / (1 + e)],
    tanh: ["A number between \u22121 and 1", `tanh(${long(x)})`, Math.tanh(x)],
    flatten: ["The same number, flattened", `x[${origin.i}, ${origin.j}, ${origin.channel}] = ${long(x)}`, x],
    same: ["The same number", `x = ${long(x)}`, x],
  }[layer.kind];
  find("sum-title").textContent = title;
  terms.append(make("p", formula, { class: "number" }));
  return { value, bound: ["sigmoid", "tanh"].includes(layer.kind) ? 8 * data.eps * Math.abs(value) : 0 };
}

function showSoftmax(layer, terms) {
  const { columns, size, map, channels } = layer.view, count = map ? channels : size;
  const read = k => map ? at(layer.input, state.i, state.j, k) : layer.input.values[k];
  const chosen = map ? state.c : state.i * columns + state.j, z = Array.from({ length: count }, (_, k) => read(k));
  const highest = z.reduce((a, b) => Math.max(a, b)), lowest = z.reduce((a, b) => Math.min(a, b));
  const powers = z.map(one => Math.exp(one - highest)), total = powers.reduce((a, b) => a + b, 0);
  find("sum-title").textContent = `One of ${count} that sum to 1`;
  terms.append(list(["k", "x", "exp(x \u2212 largest)", "share"],
    z.slice(0, 20).map((one, k) => [String(k), brief(one), brief(powers[k]), brief(powers[k] / total)])));
  const value = powers[chosen] / total;
  return { value, bound: 8 * data.eps * value * (1 + highest - lowest) };
}

// A filter or unit whose weights are not in the page.
function showMissing(layer, terms, filter) {
  find("sum-title").textContent = "Weights not included in this page";
  const what = layer.kind === "conv" ? "filter" : "unit", paragraph = make("p", null, { id: "missing" });
  paragraph.append(`Included are the ${layer.filters.length} ${what}s with the largest outputs. Select ${what} `);
  for (const other of layer.filters) {
    const button = make("button", String(other), { type: "button" });
    button.addEventListener("click", () => {
      if (layer.kind === "conv") state.c = other;
      else [state.i, state.j] = [Math.floor(other / layer.view.columns), other % layer.view.columns];
      show();
    });
    paragraph.append(button);
  }
  terms.append(paragraph);
  return null;
}

function showSum(layer, origin) {
  const terms = find("terms"), filter = layer.kind === "conv" ? state.c : state.i * layer.view.columns + state.j;
  terms.replaceChildren();
  if (layer.filters && !layer.filters.includes(filter)) return showMissing(layer, terms, filter);
  if (layer.kind === "conv") return showConv(layer, terms);
  if (layer.kind === "dense") return showDense(layer, terms);
  if (layer.kind === "max" || layer.kind === "average") return showPool(layer, terms);
  if (layer.kind === "softmax") return showSoftmax(layer, terms);
  if (layer.kind !== null) return showPointwise(layer, terms, origin);
  find("sum-title").textContent = "A custom layer";
  terms.append(make("p", "Its input and output are known, but not its formula."));
  return null;
}

function showResult(layer, hand) {
  const rows = [], verdict = find("verdict"), engine = at(layer, state.i, state.j, state.c);
  if (hand && hand.count) {
    rows.push([`sum of ${hand.count.toLocaleString("en")} products`, hand.sum], ["bias", hand.bias]);
  }
  if (hand) rows.push(["by hand", hand.value, "total"]);
  rows.push(["engine", engine]);
  find("result").tBodies[0].replaceChildren(...rows.map(([text, value, kind]) => {
    const row = make("tr", null, kind ? { class: kind } : {});
    row.append(make("th", text, { scope: "row" }), make("td", long(value)));
    return row;
  }));
  verdict.textContent = "";
  if (!hand) return;
  const difference = Math.abs(engine - hand.value), agrees = difference <= hand.bound;
  verdict.classList.toggle("wrong", !agrees);
  const differs = `They differ by ${power(difference)}`;
  verdict.textContent = !agrees ? `${differs}, more than a rounding error.` : difference !== 0
    ? `${differs}, a rounding error in ${data.dtype} (at most ${power(hand.bound)} here).`
    : layer.packed ? "They are equal." : "They are equal, as are all "
      + `${layer.view.size.toLocaleString("en")} numbers of this layer: compared when the page was written.`;
}

// ---- Selection ------------------------------------------------------------------------------------------------------

function showPick(layer) {
  const { rows, columns, channels, size, map } = layer.view, pick = find("pick");
  const kept = document.activeElement && document.activeElement.id;
  state.unit = state.i * columns + state.j;
  pick.replaceChildren(...(map
    ? [...numberInput(layer.kind === "conv" ? "Filter" : "Channel", "c", channels),
       ...numberInput("Row", "i", rows), ...numberInput("Column", "j", columns)]
    : numberInput("Number", "unit", size, () => choose(Math.floor(state.unit / columns), state.unit % columns))));
  return kept;
}

function show() {
  const layer = data.layers[state.layer];
  const kept = showPick(layer);
  state.channel = Math.min(state.channel, layer.input.view.channels - 1);
  const origin = originOf(layer);
  showMaps(layer, origin);
  showResult(layer, showSum(layer, origin));
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

function chooseLayer(number) {
  const layer = data.layers[number], before = data.layers[state.layer];
  const same = number !== state.layer && String(layer.shape) === String(before.shape);
  state.layer = number;
  if (!same) {
    const unit = layer.view.map ? null : layer.start.reduce((a, index, axis) => a * layer.shape[axis] + index, 0);
    [state.i, state.j, state.c] = layer.view.map ? layer.start
      : [Math.floor(unit / layer.view.columns), unit % layer.view.columns, 0];
  }
  const shapes = `${times(layer.input.shape)} \u2192 ${times(layer.shape)}`;
  find("name").replaceChildren(layer.name, make("span", `${layer.type}, ${shapes}`));
  find("formula").textContent = typeset(layer.facts[0][1]);
  find("facts").tBodies[0].replaceChildren(...layer.facts.slice(1).map(([word, text]) => {
    const row = make("tr");
    row.append(make("th", word, { scope: "row" }), make("td", typeset(text)));
    return row;
  }));
  if (layer.kind === "conv" && layer.filters.includes(state.c)) {
    const sums = convTerms(layer).map(one => Math.abs(one.sum));
    state.channel = sums.indexOf(Math.max(...sums));
  }
  show();
}

function listen() {
  data.layers.forEach((layer, number) => {
    const label = make("label", layer.name);
    const radio = make("input", null, { type: "radio", name: "layer", value: number });
    radio.checked = number === 0;
    radio.addEventListener("change", () => {
      chooseLayer(number);
      label.scrollIntoView({ block: "nearest", inline: "nearest" });
    });
    label.append(make("small", times(layer.shape)), radio);
    find("layers").append(label);
  });
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
