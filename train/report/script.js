"use strict";
// Draws what the JSON of the page holds. Names in it are anybody's: they become text, never markup.
(() => {
  const {runs} = JSON.parse(document.getElementById("data").textContent);
  const single = runs.length === 1 ? runs[0] : null;
  const details = single && single.details;
  const colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f"];
  document.body.classList.toggle("several", !single);

  // --- elements

  const add = (node, attributes, children) => {
    for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
    node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined).map(
      (child) => child instanceof Node ? child : document.createTextNode(String(child))));
    return node;
  };
  const el = (tag, attributes, ...children) => add(document.createElement(tag), attributes, children);
  const svg = (tag, attributes, ...children) =>
    add(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

  // A section that meets what it does not expect says so, and leaves the others alone.
  const section = (id, fill) => {
    const place = document.getElementById(id);
    try {
      if (fill(place) === false) return;
    } catch (error) {
      place.append(el("p", {class: "note"}, "This part of the file cannot be shown: " + error.message));
    }
    place.hidden = false;
  };

  // --- numbers

  const is = (value) => typeof value === "number" && isFinite(value);
  const fixed = (digits, unit = "") => (value) => is(value) ? value.toFixed(digits) + unit : "–";
  const short = (value) => !is(value) ? "–" : value === 0 ? "0" :
    Math.abs(value) >= 1e-3 && Math.abs(value) < 1e5 ? String(Number(value.toPrecision(3))) : value.toExponential(1);
  const count = (value) => !is(value) ? "–" : value >= 1e9 ? (value / 1e9).toFixed(2) + " G" :
    value >= 1e6 ? (value / 1e6).toFixed(1) + " M" : value >= 1e4 ? (value / 1e3).toFixed(0) + " k" : String(value);
  const percent = (value) => !is(value) ? "–" : value === 0 ? "0" : value < 0.01 ? "<0.01 %" : value.toPrecision(2) + " %";

  const ticks = (low, high, wanted) => {
    const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
    const all = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i) all.push(i * step);
    return all;
  };

  // Calls draw(width) now and whenever the width changes.
  const drawn = (parent, draw) => {
    let before = 0;
    const place = parent.appendChild(el("div"));
    const redraw = () => {
      const width = Math.floor(place.clientWidth);
      if (width > 0 && width !== before) place.replaceChildren(draw(before = width));
    };
    new ResizeObserver(redraw).observe(place);
    redraw();
  };

  // --- curves

  // series: {name, colour, points: [[x, y]], kind: "" | "thin" | "dashed"}.
  const chart = (parent, title, format, series, phases) => {
    series = series.filter((s) => s.points.length > 0);
    if (series.length === 0) return;
    const reading = el("span", {class: "reading"});
    const box = parent.appendChild(el("div", {class: "chart"}, reading, el("h3", {}, title)));
    const points = series.flatMap((s) => s.points);
    const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
    const right = Math.max(...xs), x0 = Math.min(0, ...xs), x1 = right > x0 ? right : x0 + 1;
    let y0 = Math.min(...ys), y1 = Math.max(...ys);
    if (y0 === y1) { y0 -= Math.abs(y0) * 0.1 || 0.5; y1 += Math.abs(y1) * 0.1 || 0.5; }
    const height = 210, bottom = 26, top = 8;
    const marks = ticks(y0, y1, 4), labels = marks.map(format);
    const left = 10 + 6.4 * Math.max(...labels.map((label) => label.length));
    drawn(box, (width) => {
      const x = (v) => left + (width - left - 10) * (v - x0) / (x1 - x0);
      const y = (v) => top + (height - top - bottom) * (y1 - v) / (y1 - y0);
      const picture = svg("svg", {width, height, role: "img", "aria-label": title});
      (phases || []).forEach((phase, i) => {
        if (phases.length < 2) return;
        const from = x(Math.max(x0, phase.begin)), to = x(Math.min(x1, phase.end));
        if (!(to > from)) return;
        if (i % 2 === 1) picture.append(svg("rect", {class: "phase", x: from, y: top, width: to - from, height: height - top - bottom}));
        picture.append(svg("text", {x: from + 4, y: top + 12}, "phase " + (i + 1), svg("title", {}, phase.network)));
      });
      marks.forEach((v, i) => picture.append(
        svg("line", {class: "grid", x1: left, x2: width - 10, y1: y(v), y2: y(v)}),
        svg("text", {x: left - 6, y: y(v) + 4, "text-anchor": "end"}, labels[i])));
      for (const v of ticks(x0, x1, Math.max(2, Math.min(8, width / 70))))
        if (Number.isInteger(v) || x1 - x0 < 2)
          picture.append(svg("text", {x: x(v), y: height - 8, "text-anchor": "middle"}, short(v)));
      for (const s of series) {
        const d = s.points.map((p, i) => (i ? "L" : "M") + x(p[0]).toFixed(1) + " " + y(p[1]).toFixed(1)).join("");
        picture.append(svg("path", {class: "curve " + s.kind, d, style: "stroke:" + s.colour}));
        if (s.kind === "" && s.points.length <= 40)
          for (const p of s.points) picture.append(svg("circle", {cx: x(p[0]), cy: y(p[1]), r: 2.6, style: "fill:" + s.colour}));
      }
      const cursor = picture.appendChild(svg("line", {class: "cursor", y1: top, y2: height - bottom, visibility: "hidden"}));
      picture.addEventListener("pointermove", (event) => {
        const at = x0 + (event.clientX - picture.getBoundingClientRect().left - left) / (width - left - 10) * (x1 - x0);
        const nearest = (s) => s.points.reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a);
        const main = series.find((s) => s.kind === "") || series[0], place = nearest(main)[0];
        cursor.setAttribute("x1", x(place));
        cursor.setAttribute("x2", x(place));
        cursor.setAttribute("visibility", "visible");
        const shown = series.filter((s) => s.kind !== "dashed").slice(0, 3);
        reading.textContent = "epoch " + short(place) + ": " +
          shown.map((s) => format(nearest(s)[1]) + (shown.length > 1 && single ? " " + s.name : "")).join(", ");
      });
      picture.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); reading.textContent = ""; });
      return picture;
    });
  };

  const points = (rows, key) => rows.filter((row) => is(row.epoch) && is(row[key])).map((row) => [row.epoch, row[key]]);
  const legend = (entries) => {
    for (const [name, colour] of entries)
      document.getElementById("legend").append(el("span", {}, el("i", {style: "background:" + colour}), name));
  };

  section("curves", (place) => {
    const charts = place.querySelector(".charts");
    if (!single) {
      const each = (key, rows) => runs.map((run, i) => ({
        name: run.name, colour: colours[i % colours.length], points: points(run[rows], key),
        kind: i < colours.length ? "" : "dashed"}));
      legend(runs.map((run, i) => [run.name, colours[i % colours.length]]));
      chart(charts, "Validation top-1", fixed(1, " %"), each("top1", "epochs"));
      chart(charts, "Validation loss", short, each("val_loss", "epochs"));
      chart(charts, "Training loss", short, each("train_loss", "epochs"));
      chart(charts, "Learning rate", short, each("lr", "steps"));
      return true;
    }
    const training = "var(--orange)", validation = "var(--blue)";
    const start = (single.stages || []).find((stage) => stage.name === "float");
    const last = Math.max(1, ...single.epochs.map((row) => row.epoch));
    const both = (step, epoch) => [
      {name: "training", colour: training, points: points(single.steps, step), kind: "thin"},
      {name: "validation", colour: validation, points: points(single.epochs, epoch), kind: ""}];
    legend([["training, so far in each epoch", training], ["validation", validation]].concat(
      start ? [["float network", "var(--grey)"]] : []));
    const level = (key) => start && is(start[key]) ?
      [{name: "float", colour: "var(--grey)", points: [[0, start[key]], [last, start[key]]], kind: "dashed"}] : [];
    chart(charts, "Top-1", fixed(1, " %"), both("train_top1", "top1").concat(level("top1")), single.phases);
    chart(charts, "Loss", short, both("train_loss", "val_loss").concat(level("loss")), single.phases);
    chart(charts, "Learning rate", short,
      [{name: "learning rate", colour: "var(--green)", points: points(single.steps, "lr").length > 1 ?
        points(single.steps, "lr") : points(single.epochs, "lr"), kind: ""}], single.phases);
    chart(charts, "Training, images/s", count,
      [{name: "images/s", colour: "var(--green)", points: points(single.epochs, "images_per_s"), kind: ""}], single.phases);
    if (single.phases.length > 1)
      place.append(el("p", {class: "quiet"}, single.phases.map((phase, i) =>
        "Phase " + (i + 1) + ", epochs " + (phase.begin + 1) + " to " + phase.end + ": " + phase.network + ". ").join("")));
    return single.epochs.length > 0;
  });

  // --- layers

  // Bars of integers, in shares and on a logarithmic scale, as most activations are 0. `line`: the floats they come from.
  const histogram = (parent, title, bars, line, clips) => {
    if (!bars) return;
    const box = parent.appendChild(el("div", {class: "chart"}, el("h3", {}, title)));
    const total = bars.counts.reduce((a, b) => a + b, 0) || 1, step = bars.scale;
    const edge = (i) => (bars.first + i * bars.width - 0.5) * step;
    const codes = bars.counts.map((n, i) => ({from: edge(i), to: edge(i + 1), share: n / total}));
    let curve = [];
    if (line) {
      const all = line.counts.reduce((a, b) => a + b, 0) || 1, width = (line.high - line.low) / line.counts.length;
      curve = line.counts.map((n, i) => [line.low + (i + 0.5) * width, width > 0 ? n / all * bars.width * step / width : 0]);
    }
    const x0 = Math.min(codes[0].from, line ? line.low : Infinity);
    const x1 = Math.max(codes[codes.length - 1].to, line ? line.high : -Infinity);
    const least = 1e-5, height = 230, top = 8, bottom = 40, left = 50;
    drawn(box, (width) => {
      const x = (v) => left + (width - left - 8) * (v - x0) / (x1 - x0);
      const y = (v) => top + (height - top - bottom) * Math.min(1, Math.log10(Math.max(v, least)) / Math.log10(least));
      const picture = svg("svg", {width, height, role: "img", "aria-label": title});
      for (const v of [1, 0.1, 0.01, 0.001, 0.0001])
        picture.append(svg("line", {class: "grid", x1: left, x2: width - 8, y1: y(v), y2: y(v)}),
          svg("text", {x: left - 6, y: y(v) + 4, "text-anchor": "end"}, Number((100 * v).toPrecision(1)) + " %"));
      for (const bar of codes) {
        if (bar.share === 0) continue;
        const gap = x(bar.to) - x(bar.from) > 6 ? 2 : 0;
        picture.append(svg("rect", {x: x(bar.from) + gap / 2, y: y(bar.share), width: Math.max(0.8, x(bar.to) - x(bar.from) - gap),
          height: height - bottom - y(bar.share), style: "fill:var(--blue);opacity:.75"},
          svg("title", {}, short(bar.from + step / 2) + (bars.width > 1 ? " to " + short(bar.to - step / 2) : "") + ": " + percent(100 * bar.share))));
      }
      const d = curve.filter((p) => p[1] > least).map((p, i) => (i ? "L" : "M") + x(p[0]).toFixed(1) + " " + y(p[1]).toFixed(1)).join("");
      if (d) picture.append(svg("path", {class: "curve", d, style: "stroke:var(--orange);stroke-width:1.5"}));
      // The grid: a tick for every integer where there is room, else for every bar.
      const each = bars.width * (x(codes[0].to) - x(codes[0].from) > 2.5 ? 1 : 4);
      for (let i = 0; i < bars.counts.length; ++i)
        if (each === bars.width || i % 4 === 0) {
          const place = x((bars.first + i * bars.width) * step);
          picture.append(svg("line", {x1: place, x2: place, y1: height - bottom, y2: height - bottom + 5, style: "stroke:var(--soft)"}));
        }
      if (clips)
        for (const limit of clips)
          if (limit > x0 && limit < x1)
            picture.append(svg("line", {class: "cursor", x1: x(limit), x2: x(limit), y1: top, y2: height - bottom, style: "stroke:var(--orange)"}));
      for (const v of ticks(x0, x1, Math.max(2, Math.min(7, width / 80))))
        picture.append(svg("text", {x: x(v), y: height - 16, "text-anchor": "middle"}, short(v)));
      return picture;
    });
  };

  section("layers", (place) => {
    if (!details || details.layers.length === 0) return false;
    const number = (weights, value) => weights > 0 ? value : "–";
    const columns = [
      ["kind", (row) => row.kind],
      ["output", (row) => row.output.join("×")],
      ["MACs", (row) => number(row.macs, count(row.macs))],
      ["weights", (row) => number(row.weight_bits, row.weight_bits + " bits")],
      ["scale", (row) => number(row.weight_bits, short(row.weight_scale))],
      ["clipped", (row) => percent(row.weights_clipped)],
      ["activations", (row) => is(row.act_bits) ? (row.act_signed ? "s" : "u") + row.act_bits : "–"],
      ["scale", (row) => short(row.act_scale)],
      ["clipped", (row) => percent(row.activations_clipped)],
      ["cosine", (row) => fixed(4)(row.cosine)],
      ["by channel", (row) => fixed(4)(row.by_channel)],
      ["scale ratio", (row) => fixed(3)(row.error_ratio), (row) => is(row.error_ratio) && row.error_ratio < 1.01]];
    const body = el("tbody"), panel = el("div", {class: "panel", id: "panel"});
    const open = (row, line) => {
      for (const other of body.children) other.classList.toggle("open", other === line);
      const pair = el("div", {class: "charts"});
      panel.replaceChildren(el("h3", {}, row.name), pair);
      const end = row.weights && ((row.weights.first - 0.5) * row.weights.scale);
      histogram(pair, "Weights: integers" + (row.masters ? " (bars), master weights (line)" : ""), row.weights, row.masters,
        row.masters ? [end, -end] : null);
      histogram(pair, "Activations: integers", row.activations);
      if (!pair.firstChild) pair.append(el("p", {class: "quiet"}, "No histograms of this layer."));
    };
    for (const row of details.layers) {
      const button = el("button", {type: "button"}, row.name);
      const line = body.appendChild(el("tr", {}, el("th", {scope: "row"}, button), columns.map(
        ([, text, bad]) => el("td", bad && bad(row) ? {class: "worse"} : {}, text(row)))));
      button.addEventListener("click", () => open(row, line));
    }
    const tied = details.layers.filter((row) => is(row.error_ratio)), ties = tied.filter((row) => row.error_ratio < 1.01);
    place.append(el("p", {class: "quiet"},
      "Click a layer to see its weights and activations on their grid. Clipped: the share of weights beyond the largest integer, ",
      "and of activations at it, on up to 127 validation images. Cosine: between the weights before and after; by channel, equalizing does not count. ",
      "Scale ratio: the error of the weights with half or twice the scale, over that with their own; near 1 is a tie",
      tied.length > 0 ? ": " + ties.length + " of " + tied.length + " layers (" + percent(100 * ties.length / tied.length) + ") are within 1 % of one." : "."),
      el("div", {class: "scroll"}, el("table", {}, el("thead", {}, el("tr", {}, el("th", {scope: "col"}, "layer"),
        columns.map(([name]) => el("th", {scope: "col"}, name)))), body)), panel);
    const first = details.layers.findIndex((row) => row.weights);
    if (first >= 0) open(details.layers[first], body.children[first]);
    return true;
  });

  // --- classes

  const nameOf = (k) => {
    const names = details.confusion ? details.confusion.classes : [];
    return k in names && names[k] !== "" ? names[k] : "class " + k;
  };
  const cut = (text, most) => text.length > most ? text.slice(0, most - 1) + "…" : text;
  const table = (head, rows) => el("div", {class: "scroll"}, el("table", {},
    el("thead", {}, el("tr", {}, head.map((cell) => el("th", {scope: "col"}, cell)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, i) => el(i ? "td" : "th", {title: cell instanceof Node ? "" : cell}, cell)))))));

  const matrix = (parent, confusion) => {
    const size = confusion.classes.length, totals = confusion.of_class.map((row) => row[0]);
    drawn(parent, (width) => {
      const label = size <= 40 ? Math.min(120, 16 + 6.2 * Math.max(...confusion.classes.map((_, k) => Math.min(16, nameOf(k).length)))) : 16;
      const cell = Math.max(2.5, Math.min(56, (width - label - 2) / size)), top = 22, side = cell * size;
      const picture = svg("svg", {width: label + side + 2, height: top + side + 2, role: "img", "aria-label": "confusion matrix"});
      picture.append(svg("text", {x: label, y: 12}, "predicted →"),
        svg("rect", {x: label, y: top, width: side, height: side, style: "fill:var(--wash)"}));
      if (size <= 40)
        for (let k = 0; k < size; ++k)
          picture.append(svg("text", {x: label - 6, y: top + (k + 0.5) * cell + 4, "text-anchor": "end"}, cut(nameOf(k), 16), svg("title", {}, nameOf(k))));
      for (const [label_of, predicted, images] of confusion.cells) {
        const share = images / Math.max(1, totals[label_of]), right = label_of === predicted;
        const node = svg("rect", {x: label + predicted * cell, y: top + label_of * cell, width: cell - (cell > 6 ? 1 : 0), height: cell - (cell > 6 ? 1 : 0),
          style: "fill:var(--" + (right ? "blue" : "orange") + ");opacity:" + (right ? 0.15 + 0.75 * share : Math.min(1, 0.12 + 1.6 * Math.sqrt(share))).toFixed(3)},
          svg("title", {}, nameOf(label_of) + " taken for " + nameOf(predicted) + ": " + images + " of " + totals[label_of]));
        picture.append(node);
        if (cell >= 26) picture.append(svg("text", {x: label + (predicted + 0.5) * cell, y: top + (label_of + 0.5) * cell + 4, "text-anchor": "middle",
          style: "fill:var(--" + (right && share > 0.4 ? "paper" : "ink") + ");pointer-events:none;font-size:" + (images > 999 ? 9.5 : 11) + "px"}, images));
      }
      return picture;
    });
  };

  section("classes", (place) => {
    if (!details || !details.confusion) return false;
    const confusion = details.confusion;
    const worst = confusion.of_class.map(([images, top1], k) => ({k, images, top1})).filter((row) => row.images > 0)
      .sort((a, b) => a.top1 - b.top1).slice(0, 8);
    const pairs = confusion.cells.filter(([label, predicted]) => label !== predicted).sort((a, b) => b[2] - a[2]).slice(0, 8);
    const bar = (share) => [el("span", {class: "track"}, el("span", {class: "bar", style: "width:" + share.toFixed(1) + "%"})), fixed(1, " %")(share)];
    const worstTable = table(["worst classes", "images", "top-1"],
      worst.map((row) => [nameOf(row.k), row.images, el("span", {}, bar(row.top1))]));
    const pairTable = pairs.length === 0 ? null :
      table(["class", "taken for", "images"], pairs.map(([label, predicted, images]) => [nameOf(label), nameOf(predicted), images]));
    const side = el("div", {}, worstTable);
    if (confusion.whole) {
      const left = el("div");
      place.append(el("div", {class: "pair"}, left, side));
      if (pairTable) side.append(el("p"), pairTable);
      matrix(left, confusion);
    } else {
      place.append(el("div", {class: "pair"}, el("div", {}, pairTable), side));
    }
    return true;
  });

  section("mistakes", (place) => {
    if (!details || details.mistakes.length === 0) return false;
    place.append(el("p", {class: "quiet"}, "The wrong predictions with the largest probability, as the network sees the images: what it says, and what the label is."),
      el("div", {class: "sheet"}, details.mistakes.map((mistake) => {
        const image = el("img", {alt: nameOf(mistake.label) + ", taken for " + nameOf(mistake.predicted), title: mistake.image,
          src: "data:image/jpeg;base64," + mistake.jpeg});
        image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth < 64));
        return el("figure", {}, image, el("figcaption", {}, el("b", {}, nameOf(mistake.predicted)), ", " + fixed(0, "\u00a0%")(100 * mistake.probability),
          el("br"), el("span", {}, "label " + nameOf(mistake.label))));
      })));
    return true;
  });

  // --- the run

  section("run", (place) => {
    const text = (value) => typeof value === "string" ? value : JSON.stringify(value);
    const about = (run) => el("dl", {}, Object.entries(run.about).filter(([name]) => name !== "command")
      .map(([name, value]) => [el("dt", {}, name.replaceAll("_", " ")), el("dd", {}, text(value))]), el("dt", {}, "folder"), el("dd", {}, run.folder));
    for (const note of (details && details.notes) || []) place.append(el("p", {class: "note"}, note));
    for (const run of runs) {
      if (!single) place.append(el("h3", {}, run.name));
      place.append(el("pre", {}, run.about.command || ""), el("p"), about(run));
    }
    if (single)
      place.append(el("details", {}, el("summary", {}, "All options"), table(["option", "value"],
        Object.entries(single.config).map(([name, value]) => [name, text(value)]))));
    return true;
  });

  if (single) {
    const epochs = single.epochs.length > 0 ? single.epochs[single.epochs.length - 1].epoch : 0;
    document.getElementById("meta").textContent = [single.folder, epochs + (epochs === 1 ? " epoch" : " epochs"), single.config["data-path"]].filter(Boolean).join("  ·  ");
  }
})();
