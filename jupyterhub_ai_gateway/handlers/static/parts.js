// What our pages share: asking the API, words for numbers, and the parts that they are made of.
// All that comes from the API is shown as text nodes, never as markup.

const setting = (name) => document.querySelector(`meta[name="gateway-${name}"]`)?.content ?? "";

export const PREFIX = setting("prefix");
export const HUB_URL = setting("hub-url");
export const SERVICE = setting("service");
export const USER = setting("user");
export const STAFF = setting("staff");
export const GROUPS = JSON.parse(setting("groups") || "[]");
export const TIME_ZONE = setting("time-zone") || "UTC"; // in which the ledger's days and the calendar's windows begin
export const BASE_URL = `${setting("public-url") || location.origin + PREFIX}v1`;
const XSRF = setting("xsrf");
const SVG = "http://www.w3.org/2000/svg";
export const LOW = 0.8; // the part of a limit from which it is shown as running out
export const NUMBER = "number";

export const at = (id) => document.getElementById(id);

/** Make an element; attributes named on… are listeners. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined)
      element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Send a request to a path below the prefix, as the person who is logged in. */
export const send = (path, { headers = {}, ...more } = {}) =>
  fetch(PREFIX + path, { ...more, headers: { "X-XSRFToken": XSRF, Accept: "application/json", ...headers } });

/** Ask the API; an answer that is no success becomes an Error with its words. */
export async function ask(path, { method = "GET", body } = {}) {
  const more = body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  const answer = await send(`api/${path}`, { method, ...more });
  if (answer.status === 204) return null;
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(found.detail ?? `The gateway answered ${answer.status}.`), { status: answer.status });
  return found;
}

// ---------------------------------------------------------------- words

export const whole = new Intl.NumberFormat("en");
const cents = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const exactly = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 9 });
export const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/**
 * Write dollars: cents, and below a cent two digits that count. $1,234.50, $0.58, $0.0036.
 * The same as `money_text` of vocabulary.py.
 */
export function money(value) {
  if (value === null || value === undefined) return "unknown";
  const size = Math.abs(value);
  const sign = value < 0 ? "-" : "";
  if (size && size < 0.000001) return `${sign}<$0.000001`;
  if (!size || size >= 0.00995) return `${sign}$${cents.format(size)}`;
  const [, power] = size.toExponential(1).split("e");
  return `${sign}$${size.toFixed(1 - Number(power))}`;
}

/** Write a price, exactly: at least cents, and what else it has. */
export const price = (value) => `$${exactly.format(value)}`;

/** Write the marks of an axis up to `most`, each with as many decimals. */
function moneyMark(most) {
  const needed = [2, 3, 4, 5, 6, 7, 8].find((digits) => Math.abs(most / 2 - Number((most / 2).toFixed(digits))) < most / 1e6) ?? 9;
  return (value) => `$${value.toLocaleString("en", { minimumFractionDigits: needed, maximumFractionDigits: needed })}`;
}

export function amount(resource, value) {
  if (value === null || value === undefined) return "unknown";
  return resource === "cost_usd" ? money(value) : whole.format(value);
}

export const RESOURCES = {
  requests: "requests", tokens: "tokens", input_tokens: "input tokens", output_tokens: "output tokens",
  cost_usd: "dollars", concurrency: "requests at a time",
};

export const MEASURES = {
  cost_usd: ["Cost", (row) => row.cost_usd, money, moneyMark],
  tokens: ["Tokens", (row) => row.input_tokens + row.output_tokens, (value) => whole.format(value), () => (value) => compact.format(value)],
  requests: ["Requests", (row) => row.requests, (value) => whole.format(value), () => (value) => compact.format(value)],
};

/** Return the measure that shows something: cost, unless nothing that was used has a price above zero. */
export const measureOf = (rows) => (rows.some((row) => row.cost_usd) || !rows.length ? "cost_usd" : "tokens");

/** Name a caller: a user by the name alone, services and keys with their kind. */
export const who = (caller) => caller.replace(/^user:/, "");

export function duration(milliseconds) {
  if (milliseconds === null || milliseconds === undefined) return "unknown";
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 60_000) return `${(milliseconds / 1000).toFixed(1)} s`;
  return `${Math.floor(milliseconds / 60_000)} min ${Math.round((milliseconds % 60_000) / 1000)} s`;
}

/** Say when something is: how long to wait, and from an hour on also the time. */
export function until(time) {
  const minutes = Math.max(0, Math.round((new Date(time) - Date.now()) / 60_000));
  if (minutes < 1) return "in less than a minute";
  if (minutes < 60) return `in ${minutes} min`;
  const wait = minutes < 48 * 60 ? `${Math.round(minutes / 60)} h` : `${Math.round(minutes / 1440)} days`;
  return `in ${wait}, on ${clock(time)}`;
}

/** Write a time as the person's own clock has it; the year where it is not this one. */
export function clock(time) {
  const at_ = new Date(time);
  const year = at_.getFullYear() === new Date().getFullYear() ? {} : { year: "numeric" };
  return at_.toLocaleString("en", { month: "short", day: "numeric", ...year, hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

/** Return a day of the ledger, today or `offset` days from it, as 2026-11-29. */
export function day(offset = 0) {
  const parts = { year: "numeric", month: "2-digit", day: "2-digit" };
  let today;
  try {
    today = new Date().toLocaleDateString("sv", { ...parts, timeZone: TIME_ZONE });
  } catch { // a zone that this browser does not know
    today = new Date().toISOString().slice(0, 10);
  }
  return new Date(Date.parse(today) + offset * 86_400_000).toISOString().slice(0, 10);
}

/** Write a day of the ledger: Sat, Nov 28. */
export const dayText = (text) => new Date(text).toLocaleDateString("en", { weekday: "short", day: "numeric", month: "short", timeZone: "UTC", ...(text.slice(0, 4) === day().slice(0, 4) ? {} : { year: "numeric" }) });

/** Say where days begin, where that is not the person's own midnight. */
export function zoneNote() {
  const now = new Date();
  const [here, there] = [undefined, TIME_ZONE].map((timeZone) => {
    try {
      return now.toLocaleString("sv", { timeZone });
    } catch {
      return "";
    }
  });
  return here === there ? "" : `Days begin at midnight of the time zone ${TIME_ZONE}; other times are those of your own clock.`;
}

/** How a model or a place fares: a class of the tag, and words. */
const STATES = {
  ready: ["ready", "Ready"],
  degraded: ["degraded", "Partly resting"],
  queued: ["degraded", "Busy: requests wait"],
  loading: ["degraded", "Is being loaded"],
  resting: ["resting", "Resting after failures"],
  down: ["resting", "Down"],
  maintenance: ["degraded", "Maintenance"],
};
export function stateTag(state) {
  const [kind, text] = STATES[state] ?? ["", String(state)];
  return tag(text, kind);
}

const OUTCOMES = {
  ok: "Answered",
  caller_left: "You left before it was over",
  draining: "The gateway restarted",
  stopped_by_staff: "Stopped by staff",
  rate_limit_exceeded: "Refused: a limit for a short time",
  insufficient_quota: "Refused: a limit is used up",
  upstream_timeout: "The provider took too long",
  upstream_unreachable: "The provider was out of reach",
  upstream_broken: "The provider's answer was broken",
  upstream_error: "The provider failed",
  upstream_overloaded: "The provider had too much to do",
  upstream_content_refused: "The provider refused the content",
};
export const outcome = (slug) => OUTCOMES[slug] ?? slug.replaceAll("_", " ");

/** How a request ended, in a word or two. */
const ENDS = { ok: "Answered", caller_left: "Left early", stopped_by_staff: "Stopped", draining: "Restart", rate_limit_exceeded: "Too fast", insufficient_quota: "Limit used up" };
const endTag = (slug) => h("span", { title: outcome(slug) }, tag(ENDS[slug] ?? slug.replaceAll("_", " "), slug === "ok" ? "ok" : slug === "caller_left" ? "" : "failed"));

// ---------------------------------------------------------------- parts

/** Make a table; a cell is [content, class]. It scrolls sideways by itself, by keyboard as well. */
export function table(heads, rows, caption) {
  const cell = (tag, [content, kind]) => h(tag, { class: kind, scope: tag === "th" ? "col" : null }, content);
  return h(
    "div",
    { class: "sheet", tabindex: 0, role: "group", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", { class: "offscreen" }, caption),
      h("thead", {}, h("tr", {}, heads.map((head) => cell("th", head)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((each) => cell("td", each))))),
    ),
  );
}

export const NAME = "name";
export const TIME = "time";

export const note = (text) => h("p", { class: "note" }, text);
export const tag = (text, kind = "") => h("span", { class: `tag ${kind}` }, text);

export const SUMS = [["Requests", NUMBER], ["Input tokens", NUMBER], ["Output tokens", NUMBER], ["Cost", NUMBER]];
export const sums = (row) => [
  [whole.format(row.requests), NUMBER],
  [whole.format(row.input_tokens), NUMBER],
  [whole.format(row.output_tokens), NUMBER],
  [row.unpriced && !row.cost_usd ? "no price" : money(row.cost_usd), NUMBER],
];

/** Make a button that copies; it says so, for those who cannot see it as well. */
export function copyButton(text, name) {
  const button = h("button", { type: "button", class: "button copy", "aria-label": `Copy ${name}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
    } catch {
      button.textContent = "Press Ctrl+C";
      const range = document.createRange();
      range.selectNodeContents(button.parentElement.querySelector("code"));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
    }
    announce(button.textContent);
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  return button;
}

export function snippet(text, name) {
  return h("div", { class: "snippet" }, h("pre", { tabindex: 0, role: "group", "aria-label": name }, h("code", {}, text)), copyButton(() => text, name));
}

/** Say something to those who listen to the page. */
export function announce(text) {
  let box = at("announcement");
  if (!box) document.querySelector(".gateway").append((box = h("p", { id: "announcement", class: "offscreen", role: "status" })));
  box.textContent = "";
  box.textContent = text;
}

/** Make a list of tabs: arrows move between them, as screen readers expect. */
export function tabs(name, items, chosen, onchoose) {
  const buttons = items.map(([id, text]) =>
    h("button", { type: "button", role: "tab", id: `tab-${id}`, "aria-controls": `${name}-panel` }, text));
  const choose = (id, focus) => {
    buttons.forEach((button) => {
      const is = button.id === `tab-${id}`;
      button.setAttribute("aria-selected", is);
      button.tabIndex = is ? 0 : -1;
      if (is && focus) button.focus();
    });
    onchoose(id);
  };
  buttons.forEach((button, index) => {
    button.addEventListener("click", () => choose(items[index][0], false));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const next = event.key === "Home" ? 0 : event.key === "End" ? items.length - 1 : step && (index + step + items.length) % items.length;
      if (next === undefined) return;
      event.preventDefault();
      choose(items[next][0], true);
    });
  });
  choose(chosen, false);
  return h("div", { class: "tabs", role: "tablist", "aria-label": name }, buttons);
}

/** Say how much of a limit is left: "$1.20 of $4.00 per month". */
function leftOf(limit) {
  const unit = limit.resource === "cost_usd" ? "" : ` ${RESOURCES[limit.resource]}`;
  const window_ = limit.resource === "concurrency" ? "" : ` per ${limit.window}`;
  return [h("strong", {}, amount(limit.resource, limit.remaining)), ` of ${amount(limit.resource, limit.limit)}${unit}${window_} left`];
}

const usedPart = (limit) => (limit.used === null ? null : limit.limit ? Math.min(1, limit.used / limit.limit) : 1);

export function limitCard(limit) {
  const part = usedPart(limit);
  const isNow = limit.resource === "concurrency";
  return h(
    "article",
    { class: part !== null && part >= LOW ? "limit low" : "limit" },
    h("h3", {}, limit.rule),
    part === null ? null : h("progress", { max: 1, value: part, "aria-label": `Used of ${limit.rule}, for ${limit.counts}` }),
    h("p", {}, leftOf(limit)),
    h("p", {}, `For ${limit.counts}${limit.endpoints ? `, on ${limit.endpoints.join(", ")}` : ""}. `,
      limit.resets_at && !isNow ? `Resets ${until(limit.resets_at)}.` : ""),
  );
}

const isFree = (price_) => Boolean(price_) && !["input_per_mtok", "output_per_mtok", "per_request", "per_second"].some((name) => price_[name]);

/** Return who answers for a model when a limit is used up: the first that is not under the same limit itself. */
function otherFor(model, limit, models) {
  return model.instead.find((name) => {
    const other = models.find((each) => each.id === name);
    return other && (!other.rules.includes(limit.rule) || (limit.resource === "cost_usd" && isFree(other.price)));
  });
}

/** Say which budgets are used up or nearly so, until when, and who answers then; a sentence for each. */
export function budgetWords(limits, models) {
  const low = limits.filter((limit) => limit.is_budget && !limit.shadow && usedPart(limit) >= LOW);
  return low.sort((one, other) => usedPart(other) - usedPart(one)).map((limit) => {
    const own = models.filter((model) => model.rules.includes(limit.rule));
    const moved = own.map((model) => [model, otherFor(model, limit, models)]).filter(([, other]) => other);
    const goes = moved.map(([model, other]) => `requests to ${model.id} go to ${other}`).join("; ");
    const resets = limit.resets_at ? until(limit.resets_at) : "";
    if (usedPart(limit) >= 1) return `Your budget “${limit.rule}” (${limit.counts}) is used up${resets ? ` until it resets ${resets}` : ""}${goes ? `: ${goes}` : ""}.`;
    const sentences = [`${Math.floor(usedPart(limit) * 100)} % of your budget “${limit.rule}” (${limit.counts}) are used`, resets && `It resets ${resets}`, goes && `When it is used up, ${goes}`];
    return `${sentences.filter(Boolean).join(". ")}.`;
  });
}

const FEW = 6;

/** Show limits: budgets first, and of these what is running out; where there are many, the others fold away. */
export function limitCards(limits) {
  const shown = limits.filter((limit) => !limit.shadow).sort((one, other) => other.is_budget - one.is_budget || (usedPart(other) ?? -1) - (usedPart(one) ?? -1));
  if (!shown.length) return [note("No limit counts for you here.")];
  const more = shown.slice(FEW);
  return [
    h("div", { class: "limits" }, shown.slice(0, FEW).map(limitCard)),
    more.length ? h("details", {}, h("summary", {}, more.length === 1 ? "One more limit" : `${more.length} more limits`), h("div", { class: "limits" }, more.map(limitCard))) : null,
  ].filter(Boolean);
}

/** Say a round number that is a little more, for the top of an axis. */
function rounded(most) {
  const unit = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 2.5, 5, 10].map((step) => step * unit).find((value) => value >= most * 0.999);
}

export function daysBetween(since, to) {
  const days = [];
  for (let time = Date.parse(since); time <= Date.parse(to); time += 86_400_000) days.push(new Date(time).toISOString().slice(0, 10));
  return days;
}

const SERIES = 6;

/**
 * Draw stacked bars, one for each day. `rows` have a day and the name of a series in `by`; the largest
 * five series have a colour of their own. The picture has the width that there is, so texts keep their size.
 */
export function stackedBars(box, { rows, days, by, measure, none = "—" }) {
  const [name, pick, write, marksOf] = MEASURES[measure];
  box.observer?.disconnect();
  if (!rows.length) {
    box.replaceChildren(h("p", { class: "note nothing" }, `Nothing was used in ${days.length === 1 ? "this day" : `these ${days.length} days`}.`));
    return;
  }
  const totals = new Map();
  for (const row of rows) totals.set(row[by] ?? none, (totals.get(row[by] ?? none) ?? 0) + pick(row));
  const order = [...totals].sort((one, other) => other[1] - one[1]).map(([key]) => key);
  const own = order.length > SERIES ? order.slice(0, SERIES - 1) : order;
  const series = order.length > SERIES ? [...own, "all others"] : own;
  const hasNoPrice = new Set(measure === "cost_usd" ? rows.filter((row) => row.unpriced).map((row) => row[by] ?? none) : []);
  const values = new Map(days.map((day) => [day, series.map(() => 0)]));
  for (const row of rows) {
    const index = own.indexOf(row[by] ?? none);
    const sums = values.get(row.day);
    if (sums) sums[index < 0 ? series.length - 1 : index] += pick(row);
  }
  const sum = (numbers) => numbers.reduce((one, other) => one + other, 0);
  const most = Math.max(0, ...[...values.values()].map(sum));
  const label = `${name} by day: ${write(sum([...totals.values()]))} in ${days.length} days; the table has the numbers`;
  const draw = () => {
    const [width, height, left, bottom, top] = [Math.max(280, box.clientWidth || 720), 200, 60, 26, 14];
    const [high, step, up] = [most ? rounded(most) : 1, (width - left - 10) / days.length, height - bottom - top];
    const bars = days.map((day, index) => {
      let y = height - bottom;
      const numbers = values.get(day);
      const parts = numbers.map((value, number) => {
        const tall = (value / high) * up;
        y -= tall;
        return tall ? svg("rect", { class: `f${series.length > 1 && number === SERIES - 1 ? 5 : number}`, x: left + (index + 0.12) * step, y, width: Math.max(1, step * 0.76), height: tall }) : "";
      });
      const lines = series.map((each, number) => (numbers[number] ? `\n${each}: ${write(numbers[number])}` : "")).join("");
      const touch = svg("rect", { fill: "transparent", x: left + index * step, y: top, width: step, height: up });
      return svg("g", { class: "day" }, touch, ...parts, svg("title", {}, `${dayText(day)}: ${write(sum(numbers))}${series.length > 1 ? lines : ""}`));
    });
    const mark = marksOf(high);
    const marks = [0, 0.5, 1].flatMap((part) => {
      const y = height - bottom - part * up;
      return [svg("line", { x1: left, x2: width - 10, y1: y, y2: y }), svg("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, most || !part ? mark(high * part) : "")];
    });
    const every = Math.max(1, Math.ceil(days.length / Math.max(2, Math.floor((width - left) / 90))));
    const names = days.map((day, index) => [day, index]).filter(([, index]) => (days.length - 1 - index) % every === 0).map(([day, index]) =>
      svg("text", { x: Math.min(left + (index + 0.5) * step, width - 24), y: height - 8, "text-anchor": "middle" },
        new Date(day).toLocaleDateString("en", { day: "numeric", month: "short", timeZone: "UTC" })));
    box.querySelector("svg")?.remove();
    box.prepend(svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...marks, ...bars, ...names));
  };
  box.replaceChildren();
  draw();
  if (series.length > 1 || (series.length === 1 && series[0] !== none))
    box.append(h("ul", { class: "legend" }, series.map((each, number) => {
      const total = number < own.length ? totals.get(each) : sum(order.slice(own.length).map((key) => totals.get(key)));
      return h("li", {}, h("i", { class: `f${number}` }), h("span", {}, each), h("b", {}, !total && hasNoPrice.has(each) ? "no price" : write(total)));
    })));
  let seen = box.clientWidth;
  box.observer = new ResizeObserver(() => {
    if (box.clientWidth === seen) return;
    seen = box.clientWidth;
    draw();
  });
  box.observer.observe(box);
}

// ---------------------------------------------------------------- a request, explained

const PARTS = [["auth", "asking the Hub who you are"], ["queue", "waiting at limits"], ["upstream", "the provider, until its answer began"], ["rest", "sending the answer"]];

function wayOf(timing) {
  const known = Math.max(0, timing.total - (timing.auth ?? 0) - (timing.queue ?? 0) - (timing.upstream ?? 0));
  const values = { ...timing, rest: known };
  const total = Math.max(timing.total, 0.001);
  let x = 0;
  const bars = PARTS.map(([key], index) => {
    const width = ((values[key] ?? 0) / total) * 600;
    const bar = svg("rect", { class: `f${index}`, x, y: 0, width, height: 18 });
    x += width;
    return bar;
  });
  return h("div", { class: "chart" },
    svg("svg", { viewBox: "0 0 600 18", role: "img", "aria-label": "Where the time went; the list says it in numbers" }, ...bars),
    h("ul", { class: "legend" }, PARTS.map(([key, text], index) => h("li", {}, h("i", { class: `f${index}` }), text, h("b", {}, duration(values[key] ?? 0))))));
}

/** Describe a request in words: nothing of what was asked or answered is known here. */
export function explained(found) {
  const tries = found.tries.map((each) => h("li", {}, `${each.deployment ? `${each.deployment}: ` : ""}${each.provider} ${each.sent_model ?? ""}: ${outcome(each.outcome)}, ${duration(each.took_ms)}`));
  const left = Object.entries(found.left_out).map(([name, reason]) => h("li", {}, `${name} ${reason}`));
  const tokens = found.input_tokens === null && found.output_tokens === null
    ? (found.attempts ? "unknown" : "none: it never left the gateway")
    : `${whole.format(found.input_tokens ?? 0)} in, ${whole.format(found.output_tokens ?? 0)} out${found.cached_input_tokens ? `, ${whole.format(found.cached_input_tokens)} of it from a cache` : ""}${found.is_estimated ? " (our estimate: the provider did not say)" : ""}`;
  const cost = found.attempts ? `${money(found.cost_usd)}${found.price_source ? `, price by ${found.price_source}` : ""}` : "nothing";
  const pairs = [
    ["Outcome", [outcome(found.outcome), ` (${found.status} ${found.outcome})`, found.refused_by ? `, by the rule “${found.refused_by}”` : ""]],
    ["Route", [found.endpoint, found.deployment && found.deployment !== "1" ? found.deployment : null, found.provider, found.sent_model, found.answered_model].filter(Boolean).filter((each, index, all) => each !== all[index - 1]).join(" → ")],
    ...(found.asked_endpoint ? [["Asked for", `${found.asked_endpoint}; a budget for it was used up, so ${found.endpoint} answered`]] : []),
    ["Tokens", tokens],
    ["Cost", cost],
    ["Charged to", found.charged_group ? `the group ${found.charged_group}` : who(found.caller)],
    ["Rules asked", found.rules.join(", ") || "none"],
    ["When", `${clock(found.at)}, ${duration(found.timing_ms.total)} in all${found.timing_ms.first_byte === null ? "" : `, first piece after ${duration(found.timing_ms.first_byte)}`}`],
    ...(tries.length > 1 ? [["Attempts", h("ol", { class: "steps" }, tries)]] : []),
    ...(left.length ? [["Left out", h("ul", { class: "steps" }, left)]] : []),
    ["Request", h("code", {}, found.request_id)],
  ];
  return [h("dl", { class: "facts-list" }, pairs.map(([name, text]) => [h("dt", {}, name), h("dd", {}, text)])), wayOf(found.timing_ms)];
}

/** Open a dialog with a title and content; it gives the focus back when it closes. */
export function dialog(title, ...content) {
  const opener = document.activeElement;
  const close = h("button", { type: "button", class: "button", onclick: () => box.close() }, "Close");
  const box = h("dialog", { class: "gateway-dialog", "aria-labelledby": "dialog-title" }, h("h2", { id: "dialog-title" }, title), content);
  const actions = box.querySelector(".actions"); // a form's own
  if (actions) actions.prepend(close);
  else box.append(h("div", { class: "actions" }, close));
  box.addEventListener("close", () => { box.remove(); opener?.focus?.(); });
  document.querySelector(".gateway").append(box);
  box.showModal();
  return box;
}

export async function explain(id) {
  try {
    dialog("This request", ...explained(await ask(`requests/${encodeURIComponent(id)}`)));
  } catch (error) {
    dialog("This request", h("p", {}, error.message));
  }
}

/** Write a number of a request: nothing for one that never left the gateway, unknown is said. */
function known(request, value, write) {
  if (value === null) return request.attempts ? "unknown" : "—";
  return write(value);
}

export function requestTable(requests, hasUsers = false) {
  const heads = [["When"], ...(hasUsers ? [["Who"]] : []), ["Model"], ["Outcome"], ["Input tokens", NUMBER], ["Output tokens", NUMBER], ["Cost", NUMBER], ["Took", NUMBER]];
  const rows = requests.map((each) => [
    [h("button", { type: "button", class: "link", "aria-label": `${clock(each.at)}: explain this request`, onclick: () => explain(each.request_id) }, clock(each.at)), TIME],
    ...(hasUsers ? [[who(each.caller), NAME]] : []),
    [each.asked_endpoint ? `${each.endpoint}, for ${each.asked_endpoint}` : each.endpoint, NAME],
    [endTag(each.outcome)],
    [known(each, each.input_tokens, (value) => whole.format(value)), NUMBER],
    [known(each, each.output_tokens, (value) => whole.format(value)), NUMBER],
    [known(each, each.cost_usd, money), NUMBER],
    [duration(each.took_ms), NUMBER],
  ]);
  return rows.length ? table(heads, rows, "The latest requests") : note("None yet.");
}
