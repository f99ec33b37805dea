// The first page: models, how to call them, what was used and what is left, and the latest requests.

import { amount, ask, at, BASE_URL, budgetWords, daysBetween, dayText, h, HUB_URL, limitCards, measureOf, money, NAME, note, PREFIX, price, requestTable, RESOURCES, SERVICE, snippet, stackedBars, stateTag, sums, SUMS, table, tabs, tag, TIME, whole, zoneNote } from "./parts.js";
import { scopesFor, snippetsOf } from "./snippets.js";

const TYPES = { "llm/v1/chat": "chat", "llm/v1/completions": "text completion", "llm/v1/embeddings": "embeddings", "llm/v1/images": "images", "llm/v1/speech": "speech", "llm/v1/transcriptions": "transcription", "llm/v1/moderations": "moderation", "llm/v1/rerank": "ranking" };
const FORMATS = { "/v1/messages": "Anthropic’s format", "/v1/responses": "Responses" };
const format = (path) => (path.endsWith(":generateContent") ? "Gemini’s format" : FORMATS[path]);

let models = [];
let summary = null;

// ---------------------------------------------------------------- models

function priceOf(rates) {
  if (!rates) return "unknown";
  const parts = [];
  if (rates.input_per_mtok || rates.output_per_mtok)
    parts.push(`${price(rates.input_per_mtok)} in${rates.output_per_mtok ? `, ${price(rates.output_per_mtok)} out` : ""}, per million tokens`);
  if (rates.per_request) parts.push(`${price(rates.per_request)} per request`);
  if (rates.per_second) parts.push(`${price(rates.per_second)} per second`);
  return parts.join("; ") || "free";
}

/** Return what a model can do: its type, the formats, and what its card says, as a list or as flags. */
function abilities(model) {
  const said = model.capabilities ?? [];
  const list = Array.isArray(said) ? said : Object.entries(said).filter(([, has]) => has === true).map(([name]) => name);
  const type = TYPES[model.endpoint_type] ?? model.endpoint_type;
  return [...new Set([type, ...list.map(String), ...model.paths.map(format).filter(Boolean)])];
}

function limitOf(model) {
  const own = model.limit ? [`${whole.format(model.limit.calls)} requests per ${model.limit.renewal_period}${model.limit.key === "endpoint" ? " for all together" : ""}`] : [];
  const ruled = (summary?.limits ?? []).filter((limit) => !limit.shadow && model.rules.includes(limit.rule));
  const texts = ruled.map((limit) => `${amount(limit.resource, limit.limit)}${limit.resource === "cost_usd" ? "" : ` ${RESOURCES[limit.resource]}`}${limit.resource === "concurrency" ? "" : ` per ${limit.window}`}`);
  return [...new Set([...own, ...texts])]; // those of several courses are often alike
}

function modelCard(model) {
  const limits = limitOf(model);
  const pairs = [
    ["Provider", [model.owned_by, model.model && model.model !== model.id ? `, as ${model.model}` : ""]],
    ["Price", priceOf(model.price)],
    ...(model.data_class ? [["Data", `up to ${model.data_class}`]] : []),
    ...(model.context_length ? [["Context", `${whole.format(model.context_length)} tokens`]] : []),
    ...(model.regions ? [["Region", model.regions.join(", ")]] : []),
    ...(model.deprecation_date ? [["Ends", model.deprecation_date]] : []),
    ["Limits", limits.length ? limits.join("; ") : "none"],
    ...(model.instead.length ? [["At limit", `then ${model.instead[0]} answers`]] : []),
    ...(model.aliases?.length ? [["Also called", model.aliases.join(", ")]] : []),
  ];
  const isChat = model.paths.includes("/v1/chat/completions");
  return h(
    "article",
    { class: "model", "data-model": model.id },
    h("header", {}, h("h3", {}, model.id), stateTag(model.state)),
    model.state_text ? h("p", { class: "note" }, model.state_text) : null,
    model.description ? h("p", {}, model.description) : null,
    h("div", { class: "tags" }, abilities(model).map((each) => tag(each))),
    h("dl", {}, pairs.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    h("div", { class: "actions" },
      h("button", { type: "button", class: "primary", "aria-label": `Call it: ${model.id}`, onclick: () => choose(model.id, true) }, "Call it"),
      isChat ? h("a", { class: "button", href: `${PREFIX}playground#${encodeURIComponent(model.id)}`, "aria-label": `Try it: ${model.id}` }, "Try it") : null),
  );
}

// ---------------------------------------------------------------- what to paste

let kind = "python";

function choose(id, scroll) {
  at("model").value = id;
  showSnippets();
  for (const card of document.querySelectorAll(".model")) card.toggleAttribute("aria-current", card.dataset.model === id);
  if (!scroll) return;
  at("call").scrollIntoView({ block: "start" });
  at("call-title").focus({ preventScroll: true });
}

function showSnippets() {
  const model = models.find((each) => each.id === at("model").value);
  const isInside = document.querySelector("[name=where]:checked").value === "inside";
  const found = snippetsOf(model, isInside, BASE_URL);
  if (!found.some((each) => each.key === kind)) kind = found[0]?.key;
  if (!kind) {
    at("kinds").replaceChildren();
    at("snippet-panel").replaceChildren(note(`Call it by ${model.paths.join(" or ")}; the page API has the rest.`));
    kind = "python";
    return;
  }
  at("kinds").replaceChildren(tabs("snippet", found.map((each) => [each.key, each.name]), kind, (key) => {
    kind = key;
    const shown = found.find((each) => each.key === key);
    at("snippet-panel").replaceChildren(
      h("p", { class: "note" }, `Paste into ${shown.place}.`),
      ...shown.cells.map((cell, index) => snippet(cell, `${shown.name}${shown.cells.length > 1 ? `, part ${index + 1}` : ""}`)),
      shown.remark ? h("p", { class: "note" }, shown.remark) : "",
    );
    at("snippet-panel").setAttribute("aria-labelledby", `tab-${key}`);
  }));
  const scopes = scopesFor(SERVICE, model);
  at("token").hidden = isInside;
  at("token").replaceChildren(
    h("ol", { class: "steps" },
      h("li", {}, "Open the Hub’s ", h("a", { href: `${HUB_URL}token`, target: "_blank", rel: "noopener" }, "token page"),
        " and choose when the token ends. What it may do goes into the field “Permissions”:", snippet(scopes, "permissions")),
      h("li", {}, "“Request new API token” shows the token once. The cell below asks for it, so that it is written nowhere."),
    ),
  );
}

// ---------------------------------------------------------------- use

const PERIODS = { today: "Today", week: "This week", month: "This month" };

function showPeriods(periods) {
  at("periods").replaceChildren(...Object.entries(PERIODS).map(([key, text]) => {
    const { total } = periods[key];
    return h("div", {}, h("dt", {}, text), h("dd", {}, total.unpriced && !total.cost_usd ? "no price" : money(total.cost_usd),
      h("div", { class: "small" }, `${whole.format(total.requests)} ${total.requests === 1 ? "request" : "requests"}, ${whole.format(total.input_tokens + total.output_tokens)} tokens${total.unpriced && total.cost_usd ? `; ${whole.format(total.unpriced)} without a price` : ""}`)));
  }));
}

function showDays() {
  const { days: rows, today } = summary.usage;
  const first = new Date(Date.parse(today) - 29 * 86_400_000).toISOString().slice(0, 10);
  const shown = rows.filter((row) => row.day >= first);
  const by = at("by").value;
  stackedBars(at("chart"), { rows: shown, days: daysBetween(first, today), by, measure: at("measure").value, none: by === "group" ? "no group: yourself" : "—" });
  const heads = [["Day"], ["Model"], ["Charged to"], ...SUMS];
  const lines = [...shown].reverse().map((row) => [[dayText(row.day), TIME], [row.endpoint, NAME], [row.group ?? "yourself", NAME], ...sums(row)]);
  at("by-day").replaceChildren(lines.length ? table(heads, lines, "Use by day, model and group") : note("Nothing yet."));
}

function showMonth(month) {
  const grouped = (rows, head, name, none) => rows.length ? table([[head], ...SUMS], rows.map((row) => [[row[name] ?? none, NAME], ...sums(row)]), `This month by ${head.toLowerCase()}`) : note("Nothing yet.");
  at("by-model").replaceChildren(grouped(month.by_model, "Model", "endpoint", "—"));
  at("by-group").replaceChildren(grouped(month.by_group, "Charged to", "group", "yourself"));
}

async function main() {
  try {
    const [found, mine] = await Promise.all([ask("models"), ask("summary")]);
    models = found.models;
    summary = mine;
    const latest = mine.usage ? await ask("requests?limit=15") : { requests: [] };
    at("limits").replaceChildren(...limitCards(mine.limits));
    const words = budgetWords(mine.limits, models);
    at("budgets").hidden = !words.length;
    at("budgets").replaceChildren(...words.map((text) => h("p", {}, text)));
    at("models").replaceChildren(...(models.length ? models.map(modelCard) : [note("There is no model for you here. Ask those who look after the Hub for access.")]));
    at("model").replaceChildren(...models.map((model) => h("option", { value: model.id }, model.id)));
    at("call").hidden = !models.length;
    at("found").hidden = false;
    if (models.length) choose(models[0].id, false);
    if (mine.usage) {
      at("measure").value = measureOf(mine.usage.days);
      at("zone").textContent = zoneNote();
      at("days").hidden = !mine.usage.days.length;
      at("first-time").hidden = Boolean(mine.usage.days.length);
      showPeriods(mine.usage.periods);
      showDays();
      showMonth(mine.usage.periods.month);
    }
    for (const id of ["use", "periods", "latest"]) at(id).hidden = !mine.usage;
    at("unwritten").hidden = Boolean(mine.usage);
    at("latest").hidden ||= !latest.requests.length;
    at("requests").replaceChildren(requestTable(latest.requests));
    at("status").hidden = true;
  } catch (error) {
    at("status").textContent = error.message;
  }
}

at("model").addEventListener("change", () => choose(at("model").value, false));
at("where").addEventListener("change", showSnippets);
for (const id of ["measure", "by"]) at(id).addEventListener("change", showDays);
at("choice").addEventListener("submit", (event) => event.preventDefault());
main();
