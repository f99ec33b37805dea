// The page of one's own use: sums, limits, days, and the latest requests explained.
// It asks with the session's cookie and its XSRF token; all that comes is shown as text nodes.

const setting = (name) => document.querySelector(`meta[name="gateway-${name}"]`).content;
const PREFIX = setting("prefix");
const XSRF = setting("xsrf");
const SVG = "http://www.w3.org/2000/svg";
const DAY_MS = 86_400_000;
const LOW = 0.8; // the part of a limit from which it is shown as running out

const at = (id) => document.getElementById(id);

/** Make an element; attributes named on… are listeners. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined)
      element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

async function ask(path) {
  const answer = await fetch(`${PREFIX}api/${path}`, { headers: { "X-XSRFToken": XSRF, Accept: "application/json" } });
  const document_ = await answer.json();
  if (!answer.ok) throw new Error(document_.detail ?? `The gateway answered ${answer.status}.`);
  return document_;
}

// ---------------------------------------------------------------- words

const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

function money(value) {
  if (value === null || value === undefined) return "unknown";
  const digits = value !== 0 && Math.abs(value) < 0.01 ? 6 : 2;
  return `$${value.toFixed(digits).replace(/(\.\d\d\d*?)0+$/, "$1")}`;
}

function amount(resource, value) {
  if (value === null || value === undefined) return "unknown";
  return resource === "cost_usd" ? money(value) : whole.format(value);
}

const MEASURES = {
  cost_usd: ["Cost", (row) => row.cost_usd, money],
  tokens: ["Tokens", (row) => row.input_tokens + row.output_tokens, (value) => compact.format(value)],
  requests: ["Requests", (row) => row.requests, (value) => whole.format(value)],
};

function until(time) {
  const minutes = Math.max(0, Math.round((new Date(time) - Date.now()) / 60_000));
  if (minutes < 60) return `in ${minutes} min`;
  if (minutes < 48 * 60) return `in ${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `in ${Math.floor(minutes / 1440)} days`;
}

const day = (offset) => new Date(Date.now() + offset * DAY_MS).toISOString().slice(0, 10);

// ---------------------------------------------------------------- parts

function table(heads, rows, caption) {
  const cell = (tag, [text, kind]) => h(tag, { class: kind, scope: tag === "th" ? "col" : null }, text);
  return h(
    "div",
    { class: "table", tabindex: 0, role: "group", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", { class: "offscreen" }, caption),
      h("thead", {}, h("tr", {}, heads.map((head) => cell("th", head)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((each) => cell("td", each))))),
    ),
  );
}

const NUMBER = "number";
const SUMS = [["Requests", NUMBER], ["Input tokens", NUMBER], ["Output tokens", NUMBER], ["Cost", NUMBER]];
const sums = (row) => [
  [whole.format(row.requests), NUMBER],
  [whole.format(row.input_tokens), NUMBER],
  [whole.format(row.output_tokens), NUMBER],
  [row.unpriced && !row.cost_usd ? "unpriced" : money(row.cost_usd), NUMBER],
];

function showTotals(total) {
  const pairs = [
    ["Requests", total ? whole.format(total.requests) : "0"],
    ["Input tokens", total ? compact.format(total.input_tokens) : "0"],
    ["Output tokens", total ? compact.format(total.output_tokens) : "0"],
    ["Cost", total ? money(total.cost_usd) : "$0.00"],
  ];
  if (total?.unpriced) pairs.push(["Without a price", whole.format(total.unpriced)]);
  at("totals").replaceChildren(...pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function limitCard(limit) {
  const part = limit.used === null || !limit.limit ? null : Math.min(1, limit.used / limit.limit);
  const when = limit.window === "at a time" ? "at a time" : `per ${limit.window}`;
  return h(
    "article",
    { class: part !== null && part >= LOW ? "limit low" : "limit" },
    h("h3", {}, limit.rule),
    part === null ? null : h("progress", { max: 1, value: part, "aria-label": `Used of ${limit.rule}` }),
    h("p", {}, h("strong", {}, amount(limit.resource, limit.remaining)), ` of ${amount(limit.resource, limit.limit)} `,
      `${limit.resource.replace("_usd", "").replaceAll("_", " ")} ${when} left`),
    h("p", {}, `For ${limit.counts}${limit.endpoints ? `, on ${limit.endpoints.join(", ")}` : ""}. `,
      limit.resets_at ? `Whole again ${until(limit.resets_at)}.` : ""),
  );
}

function showLimits(limits) {
  const shown = (limits ?? []).filter((limit) => !limit.shadow);
  at("limits").hidden = !shown.length;
  at("limits").querySelector(".limits").replaceChildren(...shown.map(limitCard));
}

function showDays(rows, since, until_, measure) {
  const [name, pick, write] = MEASURES[measure];
  const values = new Map(rows.map((row) => [row.day, pick(row)]));
  const days = [];
  for (let time = Date.parse(since); time <= Date.parse(until_); time += DAY_MS)
    days.push(new Date(time).toISOString().slice(0, 10));
  const [width, height, left, bottom, top] = [720, 190, 56, 24, 12];
  const most = Math.max(...days.map((each) => values.get(each) ?? 0), 0) || 1;
  const step = (width - left - 8) / days.length;
  const bars = days.map((each, index) => {
    const value = values.get(each) ?? 0;
    const tall = (value / most) * (height - bottom - top);
    return svg(
      "rect",
      { class: "bar-of-day", x: left + index * step + step * 0.12, y: height - bottom - tall, width: Math.max(1, step * 0.76), height: tall, rx: 2 },
      svg("title", {}, `${each}: ${write(value)}`),
    );
  });
  const marks = [0, 0.5, 1].map((part) => {
    const y = height - bottom - part * (height - bottom - top);
    return [svg("line", { x1: left, x2: width - 8, y1: y, y2: y }), svg("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, write(most * part))];
  });
  const ends = [[days[0], left, "start"], [days.at(-1), width - 8, "end"]].map(([text, x, anchor]) =>
    svg("text", { x, y: height - 8, "text-anchor": anchor }, text));
  at("chart").replaceChildren(
    svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${name} by day; the table below has the numbers` },
      ...marks.flat(), ...bars, ...ends),
  );
  at("by-day").replaceChildren(table([["Day"], ...SUMS], rows.map((row) => [[row.day], ...sums(row)]), "Use by day"));
}

function showModels(rows, hasUsers) {
  const heads = [...(hasUsers ? [["Who"]] : []), ["Model"], ["Group that pays"], ...SUMS];
  const lines = rows.map((row) => [...(hasUsers ? [[row.user]] : []), [row.endpoint], [row.group ?? "—"], ...sums(row)]);
  at("by-model").replaceChildren(lines.length ? table(heads, lines, "Use by model and group") : h("p", { class: "note" }, "Nothing yet."));
}

/** Write a number of a request: nothing for one that never left the gateway, unknown is said. */
function known(request, value, write) {
  if (value === null) return request.attempts ? "unknown" : "—";
  return write(value);
}

function showRequests(requests) {
  const rows = requests.map((each) => [
    [h("button", { type: "button", onclick: () => explain(each.request_id) }, new Date(each.at).toLocaleString())],
    [each.endpoint],
    [each.outcome, each.outcome === "ok" ? "" : "failed"],
    [known(each, each.input_tokens, whole.format), NUMBER],
    [known(each, each.output_tokens, whole.format), NUMBER],
    [known(each, each.cost_usd, money), NUMBER],
    [`${whole.format(Math.round(each.took_ms))} ms`, NUMBER],
  ]);
  const heads = [["When"], ["Model"], ["Outcome"], ["Input tokens", NUMBER], ["Output tokens", NUMBER], ["Cost", NUMBER], ["Took", NUMBER]];
  at("requests").replaceChildren(rows.length ? table(heads, rows, "The latest requests") : h("p", { class: "note" }, "None yet."));
}

async function explain(id) {
  const box = at("explained");
  try {
    const found = await ask(`requests/${encodeURIComponent(id)}`);
    const timing = Object.entries(found.timing_ms)
      .filter(([, value]) => value !== null)
      .map(([name, value]) => `${name.replace("_", " ")} ${Math.round(value * 10) / 10} ms`);
    const tries = found.tries.map((each) => `${each.number}. ${each.provider} ${each.sent_model ?? ""}: ${each.outcome}`);
    const pairs = [
      ["Request", found.request_id],
      ["Outcome", `${found.outcome} (${found.status})${found.refused_by ? `, refused by ${found.refused_by}` : ""}`],
      ["Model", [found.endpoint, found.sent_model, found.answered_model].filter(Boolean).join(" → ")],
      ["Charged to", found.charged_group ?? found.caller],
      ["Cost", `${money(found.cost_usd)}${found.price_source ? `, price by ${found.price_source}` : ""}${found.is_estimated ? ", estimated" : ""}`],
      ["Time", timing.join(", ")],
      ["Rules", found.rules.join(", ") || "none"],
      ["Attempts", tries.join("; ") || "none"],
    ];
    box.replaceChildren(h("h2", { tabindex: -1 }, "This request"), h("dl", {}, pairs.map(([name, text]) => [h("dt", {}, name), h("dd", {}, text)])));
  } catch (error) {
    box.replaceChildren(h("p", {}, error.message));
  }
  box.hidden = false;
  box.querySelector("h2")?.focus();
}

// ---------------------------------------------------------------- the page

let asked = 0;

async function show() {
  const mine = ++asked;
  const status = at("status");
  status.hidden = false;
  status.textContent = "Asking …";
  const who = at("user")?.value.trim() ?? "";
  const whose = who ? `&user=${encodeURIComponent(who)}` : "";
  const [since, until_] = [day(-Number(at("days").value)), day(0)];
  const time = `since=${since}&until=${until_}${whose}`;
  const by = who === "*" ? "user,endpoint,group" : "endpoint,group";
  try {
    const [days, models, latest] = await Promise.all([
      ask(`usage?by=day&${time}`),
      ask(`usage?by=${by}&${time}`),
      ask(`requests?limit=20${whose}`),
    ]);
    if (mine !== asked) return;
    showTotals(days.total);
    showLimits(days.limits);
    showDays(days.usage, since, until_, at("measure").value);
    showModels(models.usage, who === "*");
    showRequests(latest.requests);
    at("found").hidden = false;
    status.hidden = true;
  } catch (error) {
    if (mine === asked) status.textContent = error.message;
  }
}

at("choice").addEventListener("submit", (event) => {
  event.preventDefault();
  show();
});
for (const id of ["days", "measure"]) at(id).addEventListener("change", show);
show();
