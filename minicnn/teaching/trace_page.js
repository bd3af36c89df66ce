
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
  const box = make("div", null, { class: "scroll" }), table = make("table", null, { class: "list" });
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
      ? `channel ${origin.channel + 1} of ${input.view.channels}.` : counted(input), shown.extent);
  paint(find("output"), layer, (i, j) => colour(at(layer, i, j, state.c), layer.extent.most),
        [[state.i, state.j, 1, 1]]);
  caption("output", "Output:", layer.view.map ? `${channelWord(layer)} ${state.c + 1} of ${layer.view.channels}.`
    : counted(layer), layer.extent);
}

const FACTS = { size: "output size", GEMM: "matrix product", field: "receptive field", y: "output y",
                dy: "gradient dy" };
const channelWord = layer => layer.kind === "conv" ? "filter" : "channel";
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
    result.append(make("i", "="), grid(`products, sum ${long(sum)}`, products, most.p));
    row.append(make("b", `channel ${c + 1}`), factors, result);
    terms.append(row);
  }
  return { ...summed(layer, channels.flatMap(one => one.products.flat()), state.c), count };
}

// A bar for the sum of the products of each channel, with axes. A click selects the channel.
function channelBars(channels) {
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
  box.append(make("p", "Sum of the products of each channel:"), plot, make("p", "channel of the input"));
  const line = make("div", null, { class: "channel" });
  line.append(...numberInput("Products of channel", "channel", C));
  return [box, line];
}

function showDense(layer, terms) {
  const unit = state.i * layer.view.columns + state.j, rows = denseTerms(layer, unit), before = layer.input;
  find("sum-title").textContent = `${rows.length.toLocaleString("en")} products and a bias`;
  const largest = [...rows].sort((a, b) => Math.abs(b.product) - Math.abs(a.product)).slice(0, 10);
  const from = before.kind === "flatten" && before.input.view.map ? before.input.view : null;
  const place = d => from ? `x[${d}] = map[${Math.floor(d / from.channels / from.columns)}, `
    + `${Math.floor(d / from.channels) % from.columns}, ${d % from.channels}]` : `x[${d}]`;
  terms.append(list(["largest products", "x", "weight", "product"],
    largest.map(({ d, x, w, product }) => [place(d), long(x), long(w), long(product)])));
  const zeros = rows.filter(row => row.x === 0).length, others = rows.length - largest.length;
  const rest = rows.reduce((a, row) => a + row.product, 0) - largest.reduce((a, row) => a + row.product, 0);
  if (others > 0) {
    terms.append(make("p", `The other ${others.toLocaleString("en")} add up to ${long(rest)}`
      + (zeros ? `; ${zeros.toLocaleString("en")} of all inputs are 0.` : "."), { class: "equals" }));
  }
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

function showPointwise(layer, terms, origin) {
  const x = exact(layer.kind === "flatten" ? at(layer.input, origin.i, origin.j, origin.channel)
    : at(layer.input, state.i, state.j, state.c));
  const e = Math.exp(-Math.abs(x)), [title, formula, value] = {
    relu: ["The larger of x and 0", `max(${long(x)}, 0)`, Math.max(x, 0)],
    sigmoid: ["A number between 0 and 1", `1 / (1 + exp(\u2212x)), x = ${long(x)}`, (x >= 0 ? 1 : e) / (1 + e)],
    tanh: ["A number between \u22121 and 1", `tanh(${long(x)})`, Math.tanh(x)],
    flatten: ["The same number, flattened", `x[${origin.i}, ${origin.j}, ${origin.channel}] = ${long(x)}`, x],
    same: ["The same number", `x = ${long(x)}`, x],
  }[layer.kind];
  find("sum-title").textContent = title;
  terms.append(make("p", formula, { class: "number" }));
  if (layer.kind === "sigmoid" && namesOf(layer.index)) {
    const y = exact(at(layer, state.i, state.j, state.c)), [negative, positive] = data.classes;
    terms.append(make("p", `y is the probability of ${positive}, 1 \u2212 y = ${long(1 - y)} that of ${negative}.`));
  }
  return { value, bound: ["sigmoid", "tanh"].includes(layer.kind) ? 8 * data.eps * Math.abs(value) : 0 };
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
  const what = layer.kind === "conv" ? "filter" : "unit", paragraph = make("p", null, { id: "missing" });
  paragraph.append(`Included are the ${layer.filters.length} ${what}s with the largest outputs. Select ${what} `);
  for (const other of layer.filters) {
    const button = make("button", String(other + 1), { type: "button" });
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
  conv: "sends its gradient back times the weight", dense: "sends its gradient back times the weight",
  max: "sends its gradient to the largest number of its window: times 1 if that is this number, or 0",
  average: "shares its gradient among the numbers of its window",
  relu: "sends its gradient back where y > 0: times 1, or 0", sigmoid: "sends its gradient back times y (1 \u2212 y)",
  tanh: "sends its gradient back times 1 \u2212 y\u00b2", flatten: "is the same number: times 1",
  softmax: "sends its gradient back: that of this number k times y[k] (1 \u2212 y[k]), that of another j times "
    + "\u2212y[j] y[k]", same: "is the same number: times 1",
};

function showGradient(layer) {
  const { i, j, c } = state, place = placeOf(layer.view, i, j, c), terms = find("gradient-terms"), next = layer.next;
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
  const hand = layer.index === data.loss.top ? gradientOfLoss(layer, place) : gradientTerms(layer, i, j, c);
  if (hand && hand.formula) {
    const { operation, top } = data.loss, last = data.layers.length - 1;
    if (operation) terms.append(make("p", `It comes from the loss, ${operation.replaceAll("_", " ")}, with the target t`
      + (last > top ? ` and p = ${data.layers[last].name} of y:` : ":")));
    terms.append(make("p", hand.formula, { class: operation ? "number" : "" }));
  } else if (hand) terms.append(...uses(layer, hand));
  else terms.append(make("p", "It comes from a layer or loss whose gradient this page does not take apart."));
  compare(find("gradient-result"), find("gradient-verdict"), [], hand ? hand.sum : undefined, engine,
          hand && hand.bound, "They are equal.");
}

// What uses a number, and sends back its own gradient times a factor. A button goes there: the next link of the chain.
function uses(layer, { terms, rest }) {
  const next = layer.next, most = 8, count = terms.length, shown = terms.slice(0, most);
  const missing = layer.rest ? (next.view.map ? next.view.channels : next.view.size) - next.filters.length : 0;
  const all = missing ? count / next.filters.length * (missing + next.filters.length) : count;
  if (!count) return [make("p", `No number of ${next.name} uses it.`)];
  const rows = shown.map(one => [goTo(next, one.place), long(one.dy), long(one.factor), long(one.product)]);
  const factor = ["conv", "dense"].includes(next.kind) ? "weight" : "factor";
  const who = all === 1 ? `One number of ${next.name} uses it, and` : `${all.toLocaleString("en")} numbers of `
    + `${next.name} use it. Each`;
  const elements = [make("p", `${who} ${PASSED_BACK[next.kind]}.` + (all > 1 ? " The products are added." : "")),
    list([`${count > most ? "largest, " : ""}of ${next.name}`, "gradient", factor, "product"], rows)];
  if (count > most) {
    const others = terms.slice(most).reduce((a, one) => a + one.product, 0);
    const zeros = terms.filter(one => one.product === 0).length;
    elements.push(make("p", `The other ${(count - most).toLocaleString("en")} add up to ${long(others)}`
      + (zeros ? `; ${zeros.toLocaleString("en")} of all products are 0.` : "."), { class: "equals" }));
  }
  if (missing) {
    const what = next.kind === "conv" ? "filters" : "units";
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
function goTo(layer, place) {
  const button = make("button", `dy${indexOf(layer.shape, place)}`, { type: "button", title: `go to ${layer.name}` });
  button.addEventListener("click", () => {
    const { columns, channels } = layer.view, pixel = Math.floor(place / channels);
    chooseLayer(layer.index, [Math.floor(pixel / columns), pixel % columns, place % channels]);
    find("layers").scrollIntoView({ block: "start" });
    find("name").focus({ preventScroll: true });
  });
  return button;
}

// ---- Selection ------------------------------------------------------------------------------------------------------

function showPick(layer) {
  const { rows, columns, channels, size, map } = layer.view, pick = find("pick");
  const kept = document.activeElement && document.activeElement.id;
  state.unit = state.i * columns + state.j;
  pick.replaceChildren(...(map
    ? [...numberInput(layer.kind === "conv" ? "Filter" : "Channel", "c", channels),
       ...numberInput("Row", "i", rows), ...numberInput("Column", "j", columns)]
    : numberInput(layer.kind === "dense" ? "Unit" : "Number", "unit", size,
                  () => choose(Math.floor(state.unit / columns), state.unit % columns))));
  return kept;
}

function show() {
  const layer = data.layers[state.layer];
  const kept = showPick(layer);
  state.channel = Math.min(state.channel, layer.input.view.channels - 1);
  const origin = originOf(layer);
  showMaps(layer, origin);
  const place = placeOf(layer.view, state.i, state.j, state.c);
  find("selected").textContent = `y${indexOf(layer.shape, place)} = ${long(layer.values[place])}`;
  find("sum").classList.toggle("broad", layer.kind === "conv");
  showResult(layer, showSum(layer, origin));
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
  const shapes = `${times(layer.input.shape)} \u2192 ${times(layer.shape)}`;
  find("name").replaceChildren(layer.name, " ", make("span", `${layer.type}, ${shapes}`));
  find("formula").textContent = typeset(layer.facts[0][1]);
  find("facts").replaceChildren(...layer.facts.slice(1).map(([word, text]) => {
    const row = make("div");
    row.append(make("dt", FACTS[word] || word), make("dd", typeset(text)));
    return row;
  }));
  const label = find("layers").querySelectorAll("label")[number], strip = find("strip");
  label.firstElementChild.checked = true;
  strip.scrollLeft = label.offsetLeft - (strip.clientWidth - label.clientWidth) / 2;
  if (layer.kind === "conv" && layer.filters.includes(state.c)) {
    const sums = convTerms(layer).map(one => Math.abs(one.sum));
    state.channel = sums.indexOf(Math.max(...sums));
  }
  show();
}

function listen() {
  data.layers.forEach((layer, number) => {
    const label = make("label"), radio = make("input", null, { type: "radio", name: "layer", value: number });
    radio.addEventListener("change", () => chooseLayer(number));
    label.append(radio, layer.name, make("small", times(layer.shape)));
    find("strip").append(label);
  });
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
