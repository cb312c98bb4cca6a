"use strict";
// Reads what the page holds (numbers packed layer by layer, unpacked when a layer is chosen) and shows it: the texts with
// the attention of the token that is pointed at, a map that zooms from the whole text to single tokens, and the heads.
(async () => {
  const $ = id => document.getElementById(id);
  const data = JSON.parse($("described").textContent);
  const KIND_COLOURS = ["#cc79a7", "#e69f00", "#f0e442", "#009e73", "#56b4e9", "#0072b2", "#9aa0a6"];
  const TOLD = 12;
  const state = { part: 0, layer: 0, head: -1, chosen: null, kept: false, inward: false, tint: "chosen", seen: false };
  let current = null; // the layer that is shown, unpacked

  // ---- numbers -----------------------------------------------------------------------------------------------------
  const unpacked = new Map();
  function unpack(number) {
    if (!unpacked.has(number)) unpacked.set(number, bytesOf($("blob" + number).textContent));
    return unpacked.get(number);
  }
  async function bytesOf(text) {
    let bytes;
    if (Uint8Array.fromBase64) bytes = Uint8Array.fromBase64(text);
    else {
      const raw = atob(text);
      bytes = new Uint8Array(raw.length);
      for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    }
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }
  const decoded = steps => Float64Array.from({ length: 256 }, (_, c) => (c ? 2 ** ((c - 1) / steps - data.halvings) : 0));
  const fine = decoded(data.steps.fine), rough = decoded(data.steps.rough);
  const codeOf = weight => (weight > 2 ** -data.halvings ? Math.round(1 + data.steps.fine * (data.halvings + Math.log2(Math.min(weight, 1)))) : 0);

  async function readLayer(part, at) {
    const one = data.parts[part].layers[at];
    const n = data.texts[data.parts[part].queries].tokens.length, m = data.texts[data.parts[part].keys].tokens.length;
    const [places, steps, map, seen, whole] = await Promise.all(
      ["keys", "weights", "map", "seen", "whole"].map(name => (one[name] === null ? null : unpack(one[name]))));
    const size = one.heads * one.top * n, keys = new Uint16Array(size), codes = new Uint8Array(size);
    for (let h = 0; h < one.heads; h++)
      for (let r = 0; r < one.top; r++) {
        const from = (h * one.top + r) * n;
        for (let t = 0; t < n; t++) {
          const i = from + t;
          keys[i] = t + places[i] + 256 * places[size + i];
          codes[i] = r ? codes[i - n] - steps[i] : steps[i];
        }
      }
    return { ...one, part, at, n, m, keys, codes, map, seen, whole, readers: new Map() };
  }
  const headsShown = layer => (state.head < 0 ? d3.range(layer.heads) : [Math.min(state.head, layer.heads - 1)]);

  // What a query attends to, or who attends to a key: pairs of a place and a weight, averaged over the heads shown.
  function around(layer, token, inward) {
    const heads = headsShown(layer), sums = new Map();
    const add = (place, weight) => weight && sums.set(place, (sums.get(place) || 0) + weight / heads.length);
    for (const h of heads) {
      if (layer.whole) {
        const from = h * layer.n * layer.m;
        if (inward) for (let t = 0; t < layer.n; t++) add(t, rough[layer.whole[from + t * layer.m + token]]);
        else for (let k = 0; k < layer.m; k++) add(k, rough[layer.whole[from + token * layer.m + k]]);
      } else if (inward) {
        for (const i of readersOf(layer, h, token)) add(i % layer.n, fine[layer.codes[i]]);
      } else for (let r = 0; r < layer.top; r++) {
        const i = (h * layer.top + r) * layer.n + token;
        add(layer.keys[i], fine[layer.codes[i]]);
      }
    }
    return [...sums].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  }
  function readersOf(layer, head, key) {
    if (!layer.readers.has(head)) {
      const from = head * layer.top * layer.n, to = from + layer.top * layer.n, starts = new Uint32Array(layer.m + 1);
      for (let i = from; i < to; i++) if (layer.codes[i]) starts[layer.keys[i] + 1]++;
      for (let k = 0; k < layer.m; k++) starts[k + 1] += starts[k];
      const places = new Uint32Array(starts[layer.m]), next = starts.slice();
      for (let i = from; i < to; i++) if (layer.codes[i]) places[next[layer.keys[i]]++] = i;
      layer.readers.set(head, { starts, places });
    }
    const { starts, places } = layer.readers.get(head);
    return places.subarray(starts[key], starts[key + 1]);
  }
  function received(layer) {
    const sums = new Float64Array(layer.m), heads = headsShown(layer);
    for (const h of heads)
      if (layer.whole)
        for (let i = 0, from = h * layer.n * layer.m; i < layer.n * layer.m; i++) sums[i % layer.m] += rough[layer.whole[from + i]];
      else
        for (let i = h * layer.top * layer.n; i < (h + 1) * layer.top * layer.n; i++)
          if (layer.codes[i]) sums[layer.keys[i]] += fine[layer.codes[i]];
    return sums.map(one => one / heads.length);
  }

  // ---- texts -------------------------------------------------------------------------------------------------------
  const escaped = text => text.replace(/[&<>"']/g, c => `&#${c.charCodeAt(0)};`);
  // Characters that cannot be seen, or that would turn what follows round, are shown by their names.
  const visible = text => text.replace(
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu,
    c => (c.charCodeAt(0) < 32 ? String.fromCharCode(0x2400 + c.charCodeAt(0)) : `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`));
  const percent = share => (share >= 0.0995 ? d3.format(".0%") : share >= 0.00995 ? d3.format(".1%") : d3.format(".2%"))(share);
  const shown = (text, i) => {
    const one = data.texts[text];
    return visible(one.stops[i] > one.starts[i] ? one.text.slice(one.starts[i], one.stops[i]) : one.tokens[i]);
  };
  const spans = [];
  function showTexts() {
    const reading = $("reading");
    reading.textContent = "";
    const titles = data.texts.length > 1 ? ["First text", "Second text"] : [];
    data.texts.forEach((one, t) => {
      if (titles[t]) reading.append(Object.assign(document.createElement("h2"), { textContent: titles[t] }));
      const box = document.createElement("div"), special = new Set(one.special);
      box.className = "text";
      const short = one.tokens.length <= 2048 ? " short" : "";
      const parts = [`<div class="run${short}" dir="auto">`];
      let end = 0, run = 0;
      for (let i = 0; i < one.tokens.length; i++) {
        const start = Math.max(one.starts[i], end), stop = Math.max(one.stops[i], start);
        const gap = one.stops[i] > one.starts[i] && start > end ? one.text.slice(end, start) : "";
        if (gap) parts.push(escaped(visible(gap)));
        if (!short && ((run >= 64 && gap.includes("\n")) || run >= 512)) {
          parts.push(`</div><div class="run" dir="auto">`);
          run = 0;
        }
        let kind = "token", words = escaped(visible(one.text.slice(start, stop)));
        if (stop === start) {
          kind += special.has(i) ? " special" : " empty";
          words = special.has(i) ? escaped(visible(one.tokens[i])) : "·";
        }
        if (i >= one.given) kind += " written";
        parts.push(`<span class="${kind}" data-t="${t}" data-i="${i}" tabindex="-1">${words}</span>`);
        if (one.stops[i] > one.starts[i]) end = Math.max(end, stop);
        run++;
      }
      parts.push(escaped(visible(one.text.slice(end))), "</div>");
      box.innerHTML = parts.join("");
      reading.append(box);
      spans.push([...box.querySelectorAll(".token")]);
    });
    if (spans[0].length) spans[0][0].tabIndex = 0;
  }
  const placeOf = element => element && element.closest ? element.closest(".token") : null;

  // ---- the chosen token --------------------------------------------------------------------------------------------
  let tinted = [];
  function tint(text, pairs, colour, most) {
    for (const [i, weight] of pairs) {
      const span = spans[text][i], share = Math.min(0.85, 0.08 + 0.77 * Math.sqrt(Math.abs(weight) / most));
      const [r, g] = [`rgba(var(${colour(weight)}), ${share.toFixed(3)})`, weight];
      span.style.backgroundImage = `linear-gradient(${r}, ${r})`;
      if (Math.abs(g) >= 0.5 * most) span.classList.add("strong");
      tinted.push(span);
    }
  }
  function clearTints() {
    for (const span of tinted) {
      span.style.backgroundImage = "";
      span.classList.remove("strong");
    }
    tinted = [];
  }
  function role(text) {
    const part = data.parts[state.part];
    if (part.queries !== part.keys) return text === part.keys ? "key" : "query";
    return state.inward ? "key" : "query";
  }
  function showChosen() {
    clearTints();
    const part = data.parts[state.part];
    if (state.tint === "received") {
      const sums = received(current), most = d3.max(sums) || 1;
      tint(part.keys, [...sums].map((s, i) => [i, s]).filter(one => one[1] > 0.02 * most), () => "--key", most);
    } else if (state.tint === "attribution") {
      const { text, scores } = data.attribution, most = d3.max(scores, Math.abs) || 1;
      tint(text, scores.map((s, i) => [i, s]).filter(one => Math.abs(one[1]) > 0.02 * most), s => (s > 0 ? "--key" : "--reader"), most);
    }
    const chosen = state.chosen;
    if (!chosen || (chosen.text !== part.queries && chosen.text !== part.keys)) {
      $("told-title").textContent = chosen ? `“${shown(chosen.text, chosen.i)}” is of the other text` : "Point at a token";
      $("told").textContent = "";
      return;
    }
    const inward = role(chosen.text) === "key", other = inward ? part.queries : part.keys;
    const pairs = around(current, chosen.i, inward);
    if (state.tint === "chosen") tint(other, pairs.filter(one => one[1] > 0.002), () => (inward ? "--reader" : "--key"), d3.max(pairs, one => one[1]) || 1);
    const heads = state.head < 0 ? "all heads" : `head ${state.head}`;
    $("told-title").textContent = `“${shown(chosen.text, chosen.i)}” (${chosen.i}) ${inward ? "is attended by" : "attends to"}`;
    const rows = pairs.slice(0, TOLD).map(([i, w]) =>
      `<tr><td>${i}</td><td class="word">${escaped(shown(other, i))}</td><td>${percent(w)}</td>` +
      `<td><span class="bar" style="width:${(8 * w).toFixed(2)}em"></span></td></tr>`);
    const several = !current.whole && headsShown(current).length > 1;
    const known = current.whole ? "all weights" : `${several ? "at least: from " : ""}the ${current.top} largest weights of each token and head`;
    $("told").innerHTML = `<table>${rows.join("")}</table><p class="faint">layer ${current.layer}, ${heads}: ${known}` +
      (pairs.length > TOLD ? `; ${pairs.length - TOLD} more` : "") + "</p>";
  }
  function choose(text, i, scroll) {
    if (state.chosen) spans[state.chosen.text][state.chosen.i].classList.remove("chosen");
    state.chosen = i === null ? null : { text, i };
    if (state.chosen) {
      const span = spans[text][i];
      span.classList.add("chosen");
      document.querySelectorAll('.token[tabindex="0"]').forEach(one => (one.tabIndex = -1));
      span.tabIndex = 0;
      if (scroll) span.scrollIntoView({ block: "center" });
    }
    showChosen();
    drawMap();
  }

  // ---- the map -----------------------------------------------------------------------------------------------------
  const canvas = document.querySelector("#map canvas"), paint = canvas.getContext("2d");
  const colours = Array.from({ length: 256 }, (_, c) => (c ? d3.rgb(d3.interpolateCividis(Math.max(0, (c - 96) / 159))) : null));
  const EDGE = { left: 46, top: 20 };
  let image = null, transform = d3.zoomIdentity, area = 1;
  // Codes of the map that is shown, [rows, columns]: weights of blocks or of tokens, or which pairs can be seen.
  function mapCodes() {
    const [rows, columns] = state.seen || !current.whole ? current.blocks : [current.n, current.m];
    const size = rows * columns, found = new Uint8Array(size), heads = headsShown(current);
    if (state.seen) {
      if (current.seenAlike) return { rows, columns, codes: current.seen };
    }
    const [source, table] = state.seen ? [current.seen, fine] : current.whole ? [current.whole, rough] : [current.map, fine];
    for (let i = 0; i < size; i++) {
      let sum = 0;
      for (const h of heads) sum += table[source[h * size + i]];
      found[i] = codeOf(sum / heads.length);
    }
    return { rows, columns, codes: found };
  }
  function makeImage() {
    const { rows, columns, codes } = mapCodes();
    const off = new OffscreenCanvas(columns, rows), pixels = new ImageData(columns, rows);
    codes.forEach((code, i) => {
      const colour = colours[code];
      if (colour) pixels.data.set([colour.r, colour.g, colour.b, 255], 4 * i);
    });
    off.getContext("2d").putImageData(pixels, 0, 0);
    image = { off, rows, columns, codes };
  }
  const scales = () => ({
    x: transform.rescaleX(d3.scaleLinear([0, current.m], [EDGE.left, EDGE.left + area])),
    y: transform.rescaleY(d3.scaleLinear([0, current.n], [EDGE.top, EDGE.top + area])),
  });
  function drawMap() {
    if (!current || !image) return;
    const ratio = window.devicePixelRatio || 1, size = canvas.clientWidth;
    if (canvas.width !== Math.round(size * ratio)) canvas.width = canvas.height = Math.round(size * ratio);
    area = size - EDGE.left - 6;
    const style = getComputedStyle(document.documentElement), ink = style.getPropertyValue("--faint");
    const { x, y } = scales(), cell = Math.min(x(1) - x(0), y(1) - y(0));
    const detailed = !state.seen && !current.whole && cell >= 1.5;
    paint.setTransform(ratio, 0, 0, ratio, 0, 0);
    paint.clearRect(0, 0, size, size);
    paint.save();
    paint.beginPath();
    paint.rect(EDGE.left, EDGE.top, area, area);
    paint.clip();
    paint.imageSmoothingEnabled = false;
    paint.globalAlpha = detailed ? 0.35 : 1;
    paint.drawImage(image.off, x(0), y(0), x(current.m) - x(0), y(current.n) - y(0));
    paint.globalAlpha = 1;
    if (detailed) drawKeys(x, y);
    if (state.chosen) {
      const part = data.parts[state.part], asKey = role(state.chosen.text) === "key", i = state.chosen.i;
      paint.strokeStyle = style.getPropertyValue("--mark");
      paint.lineWidth = 1.5;
      if (state.chosen.text === (asKey ? part.keys : part.queries)) {
        if (asKey) paint.strokeRect(x(i), EDGE.top - 2, Math.max(1, x(1) - x(0)), area + 4);
        else paint.strokeRect(EDGE.left - 2, y(i), area + 4, Math.max(1, y(1) - y(0)));
      }
    }
    paint.restore();
    paint.fillStyle = ink;
    paint.font = "10px system-ui, sans-serif";
    paint.textAlign = "center";
    for (const tick of x.ticks(5)) if (Number.isInteger(tick) && x(tick) <= EDGE.left + area - 8) paint.fillText(d3.format(",")(tick), x(tick), EDGE.top - 6);
    paint.textAlign = "right";
    for (const tick of y.ticks(6)) if (Number.isInteger(tick) && y(tick) > EDGE.top + 4) paint.fillText(d3.format(",")(tick), EDGE.left - 4, y(tick) + 3);
  }
  function drawKeys(x, y) {
    const first = Math.max(0, Math.floor(y.invert(EDGE.top))), last = Math.min(current.n, Math.ceil(y.invert(EDGE.top + area)));
    const wide = Math.max(1, x(1) - x(0)), high = Math.max(1, y(1) - y(0)), heads = headsShown(current);
    for (let t = first; t < last; t++) {
      const pairs = heads.length > 1 ? around(current, t, false) : null;
      if (pairs) pairs.reverse().forEach(([key, weight]) => square(key, t, codeOf(weight)));
      else for (let r = current.top - 1; r >= 0; r--) {
        const i = (heads[0] * current.top + r) * current.n + t;
        square(current.keys[i], t, current.codes[i]);
      }
    }
    function square(key, t, code) {
      if (!code) return;
      paint.fillStyle = colours[code].formatRgb();
      paint.fillRect(x(key), y(t), wide, high);
    }
  }
  const zoom = d3.zoom().on("zoom", event => {
    transform = event.transform;
    drawMap();
  });
  // The zoom knows the page's pixels, the scales begin at the map's edge: its extent is the map.
  function fitZoom() {
    const size = canvas.clientWidth, corner = [EDGE.left, EDGE.top], far = [EDGE.left + size - EDGE.left - 6, EDGE.top + size - EDGE.left - 6];
    zoom.extent([corner, far]).translateExtent([corner, far]).scaleExtent([1, Math.max(1, Math.max(current.n, current.m) / 6)]);
    d3.select(canvas).call(zoom);
  }
  // The same part of the text in a map of another size.
  function resizeZoom() {
    const before = area, { k, x, y } = transform;
    area = canvas.clientWidth - EDGE.left - 6;
    fitZoom();
    const moved = (t, edge) => ((k - 1) * edge + t) * (area / before) - (k - 1) * edge;
    d3.select(canvas).call(zoom.transform, d3.zoomIdentity.translate(moved(x, EDGE.left), moved(y, EDGE.top)).scale(k));
  }
  function tokensAt(event) {
    const [px, py] = d3.pointer(event, canvas), { x, y } = scales();
    const key = Math.floor(x.invert(px)), query = Math.floor(y.invert(py));
    const inside = px >= EDGE.left && py >= EDGE.top && key >= 0 && key < current.m && query >= 0 && query < current.n;
    return inside ? { key, query } : null;
  }
  function describe({ key, query }) {
    const part = data.parts[state.part], { rows, columns, codes } = image;
    const name = (text, from, to) => (to - from > 1 ? `${from}–${to - 1} (“${shown(text, from)}” …)` : `“${shown(text, from)}” (${from})`);
    const { x } = scales();
    if (!state.seen && !current.whole && x(1) - x(0) >= 1.5) {
      const found = around(current, query, false).find(one => one[0] === key);
      return `${name(part.queries, query, query + 1)} → ${name(part.keys, key, key + 1)}: ${found ? (headsShown(current).length > 1 ? "at least " : "") + percent(found[1]) : `not among the ${current.top} largest`}`;
    }
    const row = Math.floor(query * rows / current.n), column = Math.floor(key * columns / current.m);
    const range = (block, blocks, n) => [Math.ceil(block * n / blocks), Math.ceil((block + 1) * n / blocks)];
    const share = fine[codes[row * columns + column]], what = state.seen ? "of the pairs can be seen" : "of their attention";
    return `${name(part.queries, ...range(row, rows, current.n))} → ${name(part.keys, ...range(column, columns, current.m))}: ${percent(share)} ${what}`;
  }

  // ---- heads -------------------------------------------------------------------------------------------------------
  const CELL = { width: 30, height: 16, gap: 4, left: 34, top: 14 };
  function showHeads() {
    const part = data.parts[state.part], most = d3.max(part.layers, one => one.heads);
    const values = (data.importance || {})[part.part];
    const strongest = values ? d3.max(values.flat(), Math.abs) || 1 : 1;
    const svg = d3.select($("heads")).html("").append("svg")
      .attr("width", CELL.left + most * (CELL.width + CELL.gap)).attr("height", CELL.top + part.layers.length * (CELL.height + CELL.gap))
      .attr("role", "group").attr("aria-label", "shares of attention by layer (rows) and head (columns)");
    svg.selectAll("text.head").data(d3.range(most)).join("text").attr("class", "head").attr("text-anchor", "middle")
      .attr("x", h => CELL.left + h * (CELL.width + CELL.gap) + CELL.width / 2).attr("y", 10).text(h => h);
    part.layers.forEach((one, at) => {
      const top = CELL.top + at * (CELL.height + CELL.gap);
      svg.append("text").attr("x", CELL.left - 6).attr("y", top + 12).attr("text-anchor", "end").text(one.layer);
      one.kinds.forEach((shares, h) => {
        const told = shares.map((s, k) => `${data.kinds[k]} ${percent(s)}`).filter((_, k) => shares[k] > 0.0005).join(", ");
        const important = values ? values[one.layer]?.[h] : undefined;
        const label = `layer ${one.layer}, head ${h}: ${told}` + (important === undefined ? "" : `; importance ${d3.format(".3~g")(important)}`);
        const cell = svg.append("g").attr("transform", `translate(${CELL.left + h * (CELL.width + CELL.gap)},${top})`)
          .attr("tabindex", -1).attr("role", "button").attr("aria-label", label).attr("data-layer", at).attr("data-head", h);
        cell.append("title").text(label);
        let from = 0;
        shares.forEach((share, k) => {
          cell.append("rect").attr("x", from * CELL.width).attr("width", share * CELL.width).attr("height", CELL.height).attr("fill", KIND_COLOURS[k]);
          from += share;
        });
        if (important !== undefined)
          cell.append("rect").attr("y", CELL.height - 3).attr("height", 3).attr("width", CELL.width * Math.max(0, important) / strongest).attr("fill", "currentColor");
        cell.append("rect").attr("class", "frame").attr("width", CELL.width).attr("height", CELL.height);
        cell.on("click", () => select({ layer: at, head: h }));
      });
    });
    $("importance").textContent = data.importance ? `Bar below: ${data.importance.told}` : "";
    $("legend").innerHTML = data.kinds.map((kind, k) => `<span><i style="background:${KIND_COLOURS[k]}"></i>${kind === "near" ? `within ${data.near}` : kind}</span>`).join("");
    markHead();
  }
  function markHead() {
    document.querySelectorAll("#heads g").forEach(cell => {
      const same = +cell.dataset.layer === state.layer && (state.head < 0 || +cell.dataset.head === state.head);
      cell.classList.toggle("chosen", same);
      cell.setAttribute("aria-pressed", same);
      cell.tabIndex = +cell.dataset.layer === state.layer && +cell.dataset.head === Math.max(0, state.head) ? 0 : -1;
    });
  }

  // ---- choices -----------------------------------------------------------------------------------------------------
  const option = (value, text) => Object.assign(document.createElement("option"), { value, textContent: text });
  function fillChoices() {
    $("part").replaceChildren(...data.parts.map((part, i) => option(i, part.title)));
    $("part-choice").hidden = data.parts.length < 2;
    const tints = [["chosen", "chosen token"], ["received", data.parts.some(part => part.layers.some(one => one.whole === null)) ? "attention received, at least" : "attention received"]];
    if (data.attribution) tints.push(["attribution", `attribution: ${data.attribution.told}`]);
    $("tint").replaceChildren(...tints.map(one => option(...one)));
    fillLayers();
  }
  function fillLayers() {
    const layers = data.parts[state.part].layers;
    $("layer").replaceChildren(...layers.map((one, i) => option(i, `${one.layer}: ${one.pattern}`)));
    fillHeads();
  }
  function fillHeads() {
    const heads = data.parts[state.part].layers[state.layer].heads;
    $("head").replaceChildren(option(-1, "all"), ...d3.range(heads).map(h => option(h, h)));
    state.head = Math.min(state.head, heads - 1);
  }
  let asked = 0;
  async function select(change) {
    const before = { ...state }, mine = ++asked;
    Object.assign(state, change);
    const layers = data.parts[state.part].layers;
    state.layer = Math.max(0, Math.min(state.layer, layers.length - 1));
    if (state.part !== before.part) fillLayers();
    else if (state.layer !== before.layer) fillHeads();
    state.head = Math.max(-1, Math.min(state.head, layers[state.layer].heads - 1));
    const layer = current && current.part === state.part && current.at === state.layer ? current : await readLayer(state.part, state.layer);
    if (mine !== asked) return; // something else was chosen while this was unpacked
    const other = !current || current.part !== layer.part;
    current = layer;
    Object.assign($("part"), { value: state.part });
    Object.assign($("layer"), { value: state.layer });
    Object.assign($("head"), { value: state.head });
    Object.assign($("tint"), { value: state.tint });
    for (const [id, on] of [["to", !state.inward], ["from", state.inward], ["weights", !state.seen], ["seen", state.seen]])
      $(id).setAttribute("aria-pressed", on);
    makeImage();
    if (other) {
      fitZoom();
      d3.select(canvas).call(zoom.transform, d3.zoomIdentity);
      showHeads();
    }
    markHead();
    showChosen();
    drawMap();
    const least = 2 ** ((96 - 1) / data.steps.fine - data.halvings);
    $("scale").innerHTML = `${percent(least)} <span class="scale" style="background:linear-gradient(90deg, ${d3.range(0, 1.01, 0.125).map(d3.interpolateCividis).join(",")})"></span> 100%`;
  }

  // ---- search ------------------------------------------------------------------------------------------------------
  let hits = [], at = -1;
  // Small letters, but where that would move what follows.
  const lowered = text => text.replace(/./gsu, c => (c.toLowerCase().length === c.length ? c.toLowerCase() : c));
  // Where the text of all tokens so far ends: special tokens have no place of their own.
  const ends = data.texts.map(one => {
    let end = 0;
    return one.stops.map(stop => (end = Math.max(end, stop)));
  });
  function search() {
    document.querySelectorAll(".token.found").forEach(span => span.classList.remove("found"));
    const wanted = lowered($("search").value);
    hits = [];
    at = -1;
    if (wanted)
      data.texts.forEach((one, t) => {
        const text = lowered(one.text);
        for (let from = text.indexOf(wanted); from >= 0 && hits.length < 5000; from = text.indexOf(wanted, from + 1)) {
          let i = d3.bisectLeft(ends[t], from + 1);
          while (i < one.tokens.length && !(one.stops[i] > from && one.starts[i] < from + wanted.length)) i++;
          if (i < one.tokens.length) hits.push({ text: t, i, to: from + wanted.length });
        }
      });
    for (const hit of hits)
      for (let i = hit.i; i < data.texts[hit.text].tokens.length && (data.texts[hit.text].starts[i] < hit.to || data.texts[hit.text].stops[i] <= data.texts[hit.text].starts[i]); i++)
        if (data.texts[hit.text].stops[i] > data.texts[hit.text].starts[i]) spans[hit.text][i].classList.add("found");
    $("hits").textContent = wanted ? `${hits.length.toLocaleString("en")} found` : "";
  }
  function nextHit(step) {
    if (!hits.length) return;
    at = (at + step + hits.length) % hits.length;
    state.kept = true;
    choose(hits[at].text, hits[at].i, true);
    $("hits").textContent = `${at + 1} of ${hits.length.toLocaleString("en")}`;
  }

  // ---- what people do ----------------------------------------------------------------------------------------------
  function listen() {
    $("reading").addEventListener("pointerover", event => {
      const span = placeOf(event.target);
      if (!span || state.kept) return;
      $("told").setAttribute("aria-live", "off"); // nobody wants each token that a pointer passes read out
      choose(+span.dataset.t, +span.dataset.i);
    });
    $("reading").addEventListener("click", event => {
      const span = placeOf(event.target);
      if (!span) return;
      const same = state.kept && state.chosen && state.chosen.text === +span.dataset.t && state.chosen.i === +span.dataset.i;
      state.kept = !same;
      choose(+span.dataset.t, +span.dataset.i);
    });
    $("reading").addEventListener("keydown", event => {
      const span = placeOf(event.target);
      if (!span) return;
      const ahead = getComputedStyle(span.closest(".run")).direction === "rtl" ? -1 : 1;
      const step = { ArrowRight: ahead, ArrowLeft: -ahead }[event.key];
      $("told").setAttribute("aria-live", "polite");
      const text = +span.dataset.t, i = +span.dataset.i;
      if (step && spans[text][i + step]) {
        event.preventDefault();
        choose(text, i + step);
        spans[text][i + step].focus();
        spans[text][i + step].scrollIntoView({ block: "nearest" });
      } else if (event.key === "Enter") {
        state.kept = !state.kept;
        choose(text, i);
      }
    });
    $("reading").addEventListener("focusin", event => {
      const span = placeOf(event.target);
      if (span && !state.kept && span.matches(":focus-visible")) choose(+span.dataset.t, +span.dataset.i);
    });
    for (const id of ["part", "layer", "head"]) $(id).addEventListener("change", event => select({ [id]: +event.target.value }));
    $("tint").addEventListener("change", event => select({ tint: event.target.value }));
    $("to").addEventListener("click", () => select({ inward: false }));
    $("from").addEventListener("click", () => select({ inward: true }));
    $("weights").addEventListener("click", () => select({ seen: false }));
    $("seen").addEventListener("click", () => select({ seen: true }));
    const view = d3.select(canvas);
    $("closer").addEventListener("click", () => view.call(zoom.scaleBy, 2));
    $("farther").addEventListener("click", () => view.call(zoom.scaleBy, 0.5));
    $("all").addEventListener("click", () => view.call(zoom.transform, d3.zoomIdentity));
    canvas.addEventListener("pointermove", event => {
      const found = current && tokensAt(event);
      $("place").textContent = found ? describe(found) : "";
    });
    canvas.addEventListener("click", event => {
      const found = current && tokensAt(event);
      if (!found) return;
      state.kept = true;
      choose(data.parts[state.part].queries, found.query, true);
    });
    canvas.addEventListener("keydown", event => {
      const move = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
      if (move) view.call(zoom.translateBy, move[0] / transform.k, move[1] / transform.k);
      else if (event.key === "+" || event.key === "=") view.call(zoom.scaleBy, 2);
      else if (event.key === "-") view.call(zoom.scaleBy, 0.5);
      else if (event.key === "0") view.call(zoom.transform, d3.zoomIdentity);
      else return;
      event.preventDefault();
      const { x, y } = scales(), middle = [Math.floor(x.invert(EDGE.left + area / 2)), Math.floor(y.invert(EDGE.top + area / 2))];
      $("place").textContent = `in the middle: ${describe({ key: Math.min(middle[0], current.m - 1), query: Math.min(middle[1], current.n - 1) })}`;
    });
    $("heads").addEventListener("keydown", event => {
      const cell = event.target.closest("g[data-head]"), move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!cell) return;
      const layer = +cell.dataset.layer + (move ? move[0] : 0), head = +cell.dataset.head + (move ? move[1] : 0);
      if (!move && event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      const next = document.querySelector(`#heads g[data-layer="${layer}"][data-head="${head}"]`);
      if (next) select({ layer, head }).then(() => next.focus());
    });
    $("search").addEventListener("input", search);
    $("search").addEventListener("keydown", event => {
      if (event.key === "Enter") nextHit(event.shiftKey ? -1 : 1);
    });
    document.addEventListener("keydown", event => {
      if (event.target.matches("input") || (event.target.matches("select") && event.key !== "/") || event.ctrlKey || event.metaKey || event.altKey) return;
      const change = { "[": { layer: state.layer - 1 }, "]": { layer: state.layer + 1 }, ",": { head: state.head - 1 }, ".": { head: state.head + 1 } }[event.key];
      if (change) select(change);
      else if (event.key === "Escape") {
        state.kept = false;
        choose(0, null);
      } else if (event.key === "/") {
        event.preventDefault();
        $("search").focus();
      }
    });
    window.addEventListener("resize", () => {
      if (!current) return;
      resizeZoom();
      drawMap();
    });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);
  }

  try {
    showTexts();
    fillChoices();
    listen();
    await select({ layer: data.parts[0].layers.length - 1 });
    if (data.attribution) select({ tint: "attribution" });
    document.documentElement.dataset.ready = Math.round(performance.now());
  } catch (problem) {
    const state = $("state") || $("reading").appendChild(document.createElement("p"));
    state.textContent = `This page could not be shown: ${problem.message}`;
    throw problem;
  }
})();
