// For those who look after the gateway, and for instructors: use, limits, models, requests in flight,
// configuration, and what staff did. A tab asks the API when it is opened.

import { amount, announce, ask, at, clock, day, daysBetween, dayText, dialog, duration, GROUPS, h, LOW, MEASURES, measureOf, money, NAME, note, NUMBER, PREFIX, requestTable, RESOURCES, snippet, STAFF, stackedBars, stateTag, sums, SUMS, table, tabs, tag, TIME, until, who, whole, zoneNote } from "./parts.js";

const IS_ADMIN = STAFF === "admin";
const SEES_ALL = GROUPS.includes("*");
const MOST = 100; // sums that are listed
const EVERY_MS = 5000;

const percent = new Intl.NumberFormat("en", { style: "percent" });

const panel = () => at("staff-panel");
let leave = () => {}; // what the tab that is shown wants done when another is chosen

const field = (text, control) => h("label", { class: "field" }, text, control);
const option = (value, text) => h("option", { value }, text);
const problem = (error) => h("p", { class: "problem", role: "alert" }, error.message);

// ---------------------------------------------------------------- use

const BY = { user: "User", group: "Course or group", endpoint: "Model", model: "Provider’s model", provider: "Provider", day: "Day" };
const NEXT = { user: "endpoint", group: "user", endpoint: "user", model: "user", provider: "endpoint", day: "user" };
const FILTERS = ["user", "group", "endpoint", "provider", "model"];

const view = { since: day(-29), until: day(0), by: SEES_ALL ? "group" : "user", measure: "cost_usd" };
let hasChosen = false; // true once the person said what the picture shows
for (const name of FILTERS) view[name] = "";
if (!SEES_ALL) view.group = GROUPS[0];

/** Write the part of a question that says which use is meant. */
function question(...more) {
  const query = new URLSearchParams({ since: view.since, until: view.until });
  for (const name of FILTERS) if (view[name]) query.set(name, view[name]);
  if (!view.user && !view.group) query.set("user", "*");
  for (const [name, value] of more) query.set(name, value);
  return query;
}

function usageTab() {
  const input = (name, type, label) => field(label, h("input", { id: `f-${name}`, type, value: view[name], autocomplete: "off", onchange: (event) => change({ [name]: event.target.value.trim() }) }));
  const select = (name, label, choices) => {
    const box = h("select", { id: `f-${name}`, onchange: (event) => change({ [name]: event.target.value }) }, choices.map(([value, text]) => option(value, text)));
    box.value = view[name];
    return field(label, box);
  };
  const groupField = SEES_ALL ? input("group", "text", "Group") : select("group", "Group", GROUPS.map((group) => [group, group]));
  panel().replaceChildren(
    h("form", { class: "choice filters", "aria-label": "Which use", id: "usage-choice", onsubmit: (event) => event.preventDefault() },
      input("since", "date", "From"), input("until", "date", "To"), select("by", "By", Object.entries(BY)), select("measure", "Show", Object.entries(MEASURES).map(([key, [text]]) => [key, text])),
      input("user", "text", "User"), groupField, input("endpoint", "text", "Model"), input("provider", "text", "Provider")),
    h("ul", { class: "chips", id: "chips", "aria-label": "Filters" }),
    h("p", { id: "usage-status", class: "note mt-2", role: "status" }, "Asking …"),
    h("div", { id: "usage-found", hidden: true },
    h("dl", { id: "usage-total", class: "totals" }),
    h("div", { id: "usage-chart", class: "chart mt-3" }), h("p", { class: "note", id: "usage-zone" }),
    h("section", { "aria-labelledby": "usage-by-title" }, h("h2", { id: "usage-by-title" }), h("div", { id: "usage-rows" }), h("p", { class: "note", id: "usage-cut" })),
    h("section", { "aria-labelledby": "usage-requests-title" }, h("h2", { id: "usage-requests-title" }, "The latest requests"), h("div", { id: "usage-requests" })),
    h("section", { "aria-labelledby": "usage-export-title" }, h("h2", { id: "usage-export-title" }, "Take it along"), h("p", { class: "d-flex flex-wrap gap-2", id: "usage-export" }))),
  );
  showUsage();
}

function change(values) {
  hasChosen ||= "measure" in values;
  Object.assign(view, values);
  if (!SEES_ALL && !view.group) view.group = GROUPS[0];
  for (const name of ["since", "until", "by", "measure", ...FILTERS]) if (at(`f-${name}`)) at(`f-${name}`).value = view[name];
  showUsage();
}

/** Look closer at one row: it becomes a filter, and the next question is asked of it. */
function drill(row) {
  const by = view.by;
  const value = row[by];
  const values = by === "day" ? { since: value, until: value } : { [by]: value ?? "" };
  change({ ...values, by: NEXT[by] });
  announce(`Use of ${value ?? "no group"}, by ${BY[NEXT[by]]}`);
  at("usage-by-title").focus();
}

function showChips() {
  const known = FILTERS.filter((name) => view[name] && (SEES_ALL || name !== "group"));
  at("chips").replaceChildren(...known.map((name) => h("li", { class: "chip" }, `${BY[name]}: ${view[name]}`,
    h("button", { type: "button", "aria-label": `Without the filter ${BY[name]}: ${view[name]}`, onclick: () => change({ [name]: "" }) }, "×"))));
}

let asked = 0;

async function showUsage() {
  const mine = ++asked;
  const status = at("usage-status");
  showChips();
  status.hidden = false;
  status.textContent = "Asking …";
  try {
    const series = view.by === "day" ? "endpoint" : view.by;
    const top = await ask(`usage?${question(["by", view.by], ["order", view.measure], ["limit", MOST])}`);
    const isFew = top.usage.length <= 200 && ["endpoint", "provider", "group", "model", "day"].includes(view.by);
    const [days, latest] = await Promise.all([
      ask(`usage?${question(["by", isFew ? `day,${series}` : "day"])}`),
      ask(`requests?limit=20&${question()}`),
    ]);
    if (mine !== asked || !at("usage-total")) return;
    if (!hasChosen) at("f-measure").value = view.measure = measureOf(top.usage);
    at("usage-zone").textContent = zoneNote();
    at("usage-found").hidden = false; // the picture takes the width that there is
    showUsageTotal(top.total);
    stackedBars(at("usage-chart"), { rows: days.usage, days: daysBetween(view.since, view.until).slice(-366), by: isFew ? series : "nothing", measure: view.measure, none: isFew ? (series === "group" ? "no group" : "none") : "—" });
    showRows(top);
    at("usage-requests").replaceChildren(requestTable(latest.requests, true));
    showExport();
    status.hidden = true;
  } catch (error) {
    if (mine !== asked || !at("usage-found")) return;
    at("usage-found").hidden = true;
    status.textContent = error.message;
  }
}

function showUsageTotal(total) {
  const pairs = total
    ? [["Cost", money(total.cost_usd)], ["Requests", whole.format(total.requests)], ["Failed or refused", whole.format(total.failures)], ["Tokens", whole.format(total.input_tokens + total.output_tokens)], ...(total.unpriced ? [["Without a price", whole.format(total.unpriced)]] : [])]
    : [["Cost", money(0)], ["Requests", "0"], ["Failed or refused", "0"], ["Tokens", "0"]];
  at("usage-total").replaceChildren(...pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function showRows(top) {
  const by = view.by;
  const title = at("usage-by-title");
  title.tabIndex = -1;
  title.textContent = `By ${BY[by].toLowerCase()}`;
  const rows = top.usage.map((row) => {
    const name = row[by] === null || row[by] === "" ? (by === "group" ? "no group: themselves" : "none") : by === "user" ? who(row[by]) : by === "day" ? dayText(row[by]) : row[by];
    const canDrill = row[by] !== null && row[by] !== "";
    return [[canDrill ? h("button", { type: "button", onclick: () => drill(row) }, name) : name, NAME], ...sums(row), [whole.format(row.failures), NUMBER]];
  });
  at("usage-rows").replaceChildren(rows.length ? table([[BY[by]], ...SUMS, ["Failed or refused", NUMBER]], rows, `Use by ${BY[by]}`) : note("Nothing in this time."));
  at("usage-cut").textContent = top.is_cut ? `The largest ${MOST}. The export has all of them.` : "";
}

function showExport() {
  const link = (text, ...more) => h("a", { class: "button", href: `${PREFIX}api/export?${question(...more)}` }, text);
  at("usage-export").replaceChildren(link("Sums by day (CSV, FOCUS columns)", ["rows", "focus"]), link("Each request (CSV)", ["rows", "requests"]));
}

// ---------------------------------------------------------------- limits

async function limitsTab() {
  panel().replaceChildren(
    h("section", { class: "mt-0", "aria-labelledby": "near-title" }, h("h2", { id: "near-title" }, "Who is near a limit"),
      note("Of the limits that somebody has come under since the policies changed or the gateway started."), h("div", { id: "near" }, note("Asking …"))),
    ...(IS_ADMIN ? [h("section", { "aria-labelledby": "overrides-title" }, h("h2", { id: "overrides-title" }, "Overrides"),
      h("p", { class: "d-flex" }, h("button", { type: "button", class: "primary", id: "override", onclick: () => overrideForm({}) }, "Override a limit …")), h("div", { id: "overrides" }))] : []),
  );
  await Promise.all([showNear(), IS_ADMIN ? showOverrides() : null]);
}

async function showNear() {
  try {
    const { limits, count } = await ask("standing?percent=50&limit=100");
    const rows = limits.map((limit) => [
      [limit.who.split(" ").map(who).join(", "), NAME],
      [[limit.rule, limit.shadow ? " (shadow)" : ""], NAME],
      [h("div", { class: limit.used / limit.limit >= LOW ? "low" : "" }, h("progress", { max: 1, value: Math.min(1, limit.used / (limit.limit || 1)), "aria-label": `Used of ${limit.rule} by ${limit.who}` }))],
      [`${amount(limit.resource, limit.used)} of ${amount(limit.resource, limit.limit)}${limit.resource === "cost_usd" ? "" : ` ${RESOURCES[limit.resource]}`}`, NUMBER],
      [limit.resets_at && limit.resource !== "concurrency" ? until(limit.resets_at) : "—", TIME],
      ...(IS_ADMIN ? [[giveMore(limit)]] : []),
    ]);
    const heads = [["Who"], ["Limit"], ["Used up"], ["Used", NUMBER], ["Resets"], ...(IS_ADMIN ? [["Change"]] : [])];
    at("near").replaceChildren(rows.length ? table(heads, rows, "Who is near a limit") : note("Nobody has used half of a limit."), count > limits.length ? note(`The nearest ${limits.length} of ${count}.`) : "");
  } catch (error) {
    at("near").replaceChildren(problem(error));
  }
}

/** Offer an override for whom a limit counts: a member of a group is a user. Others are no single one's. */
function giveMore({ who: whose, rule, resource }) {
  const one = whose.split(" ").at(-1);
  return /^(user|group|service|key):./.test(one)
    ? h("button", { type: "button", class: "button small", "aria-label": `Give more … to ${one} of ${rule}`, onclick: () => overrideForm({ who: one, resource, policy: rule }) }, "Give more …") : "";
}

async function showOverrides() {
  try {
    const { overrides } = await ask("overrides");
    const rows = overrides.map((each) => [
      [who(each.who), NAME], [`${each.amount > 0 ? "+" : ""}${each.resource === "cost_usd" ? money(each.amount) : `${whole.format(each.amount)} ${RESOURCES[each.resource]}`}`], [each.policy ?? "all of these"],
      [each.reason, "wide"], [clock(each.ends), TIME], [who(each.created_by)],
      [h("button", { type: "button", class: "button small danger", "aria-label": `End: the override for ${each.who}: ${each.reason}`, onclick: () => endOverride(each) }, "End")],
    ]);
    at("overrides").replaceChildren(rows.length ? table([["For"], ["Amount"], ["Limit"], ["Reason"], ["Until"], ["By"], ["Change"]], rows, "Overrides") : note("None counts now."));
  } catch (error) {
    at("override").hidden = true;
    at("overrides").replaceChildren(error.status === 404 ? note(error.message) : problem(error));
  }
}

async function endOverride(each) {
  try {
    await ask(`overrides/${encodeURIComponent(each.id)}`, { method: "DELETE" });
    announce(`The override for ${each.who} is over.`);
    await Promise.all([showOverrides(), showNear()]);
  } catch (error) {
    dialog("That did not work", problem(error));
  }
}

function overrideForm({ who = "user:", resource = "cost_usd", policy = "" }) {
  const text = (name, value, more = {}) => h("input", { name, value, required: true, autocomplete: "off", ...more });
  const ends = new Date(Date.now() + 7 * 86_400_000);
  ends.setMinutes(ends.getMinutes() - ends.getTimezoneOffset());
  const kinds = h("select", { name: "resource" }, Object.entries(RESOURCES).map(([value, name]) => option(value, name)));
  kinds.value = resource;
  const wrong = h("p", { class: "problem", role: "alert" });
  const form = h("form", { class: "settings", id: "override-form" },
    field("For whom: user:NAME, group:NAME or service:NAME", text("who", who)), field("Of what", kinds),
    field("How much more; with a minus, less", text("amount", "", { type: "number", step: "any" })),
    field("Of which rule (empty: all of the kind)", text("policy", policy, { required: false })),
    field("Why, for the audit log", text("reason", "", { maxlength: 500 })), field("Until", text("ends", ends.toISOString().slice(0, 16), { type: "datetime-local" })),
    wrong, h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Override")));
  const box = dialog("Override a limit", form);
  form.elements[who === "user:" ? "who" : "amount"].focus();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const values = Object.fromEntries(new FormData(form));
    const body = { ...values, ends: new Date(values.ends).toISOString(), policy: values.policy.trim() || null };
    try {
      await ask("overrides", { method: "POST", body });
      box.close();
      announce(`The override for ${values.who} counts.`);
      await Promise.all([showOverrides(), showNear()]);
    } catch (error) {
      wrong.textContent = error.message;
    }
  });
}

// ---------------------------------------------------------------- models

const REASONS = {
  upstream_auth_error: "The provider refuses the gateway’s key",
  upstream_not_found: "The provider does not know the model or the address",
  upstream_rate_limited: "The provider takes no more for now",
  upstream_timeout: "It took too long",
  upstream_unreachable: "It is out of reach",
  upstream_broken: "Its answer was broken",
  upstream_error: "It failed",
  upstream_overloaded: "It has too much to do",
};

async function modelsTab() {
  const { deployments } = await ask("deployments");
  const rows = deployments.map((each) => [
    [each.endpoint, NAME], [each.deployment], [`${each.provider}${each.model && each.model !== each.endpoint ? ` · ${each.model}` : ""}`, NAME],
    [each.state === "resting" && each.rests_s !== null ? tag(`Resting, ${duration(each.rests_s * 1000)} more`, "resting") : stateTag(each.state)],
    [each.state_text && each.state !== "resting" ? `${each.state_text}${each.state_until ? ` Until ${clock(each.state_until)}.` : ""}` : each.slow ? "Slower than usual: asked after the others" : each.reason ? (REASONS[each.reason] ?? each.reason.replaceAll("_", " ")) : "—", "wide"],
    [each.in_flight === null ? "—" : whole.format(each.in_flight), NUMBER],
    [each.latency_s === null ? "—" : duration(each.latency_s * 1000), NUMBER],
    [each.failures === null ? "—" : `${whole.format(each.failures)}${each.error_rate ? ` (${percent.format(each.error_rate)} of late)` : ""}`, NUMBER],
    [each.price_source ?? "no price", TIME],
  ]);
  const resting = deployments.filter((each) => each.state !== "ready").length;
  panel().replaceChildren(h("h2", {}, "Models and where they run"),
    h("p", {}, resting ? tag(`${resting} of ${deployments.length} ${resting === 1 ? "is" : "are"} not ready`, "resting") : tag(`All ${deployments.length} are ready`, "ready")),
    rows.length ? table([["Model"], ["Place"], ["Provider"], ["State"], ["Why"], ["In flight", NUMBER], ["First byte", NUMBER], ["Failures", NUMBER], ["Price by"]], rows, "Models and where they run") : note("There is none."),
    note("How a place fares is learned from what is sent to it. A place that has no other beside it is asked even while it rests."));
}

// ---------------------------------------------------------------- requests in flight

async function inflightTab() {
  const list = h("div", { id: "inflight" });
  panel().replaceChildren(h("h2", {}, "Requests that run now"), h("div", { class: "choice mb-3" },
    h("button", { type: "button", class: "button", onclick: () => showInflight() }, "Look again"),
    h("label", { class: "field check" }, h("input", { type: "checkbox", id: "again", checked: true }), `every ${EVERY_MS / 1000} seconds`)), list);
  const timer = setInterval(() => {
    const isBusy = list.contains(document.activeElement) || document.querySelector("dialog[open]");
    if (at("again")?.checked && !document.hidden && !isBusy) showInflight();
  }, EVERY_MS);
  leave = () => clearInterval(timer);
  await showInflight();
}

async function showInflight() {
  const { requests, count } = await ask("inflight");
  const rows = requests.map((each) => [
    [who(each.user), NAME], [each.endpoint, NAME], [[each.operation, each.is_stream ? ", stream" : ""]], [each.provider ? `${each.provider}${each.attempts > 1 ? `, attempt ${each.attempts}` : ""}` : "waiting at limits"], [duration(each.age_s * 1000), NUMBER],
    [h("button", { type: "button", class: "button small danger", "aria-label": `Stop … the request of ${who(each.user)} to ${each.endpoint}`, onclick: () => stopForm(each) }, "Stop …")],
  ]);
  at("inflight")?.replaceChildren(rows.length ? table([["Who"], ["Model"], ["What"], ["Where it is"], ["For", NUMBER], ["Change"]], rows, "Requests that run now") : note("None."), count > requests.length ? note(`The oldest ${requests.length} of ${count}.`) : "");
}

function stopForm(each) {
  const wrong = h("p", { class: "problem", role: "alert" });
  const form = h("form", { class: "settings" }, h("p", { class: "m-0" }, `${who(each.user)} asked ${each.endpoint}. They get an error that says that staff stopped it, and are charged for what was done.`),
    field("Why, for the audit log", h("input", { name: "reason", maxlength: 500, autocomplete: "off" })), wrong, h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Stop it")));
  const box = dialog("Stop this request?", form);
  form.elements.reason.focus();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await ask(`inflight/${encodeURIComponent(each.request_id)}?${new URLSearchParams({ reason: form.elements.reason.value })}`, { method: "DELETE" });
      box.close();
      announce("The request is stopped.");
      await showInflight();
    } catch (error) {
      wrong.textContent = error.message;
    }
  });
}

// ---------------------------------------------------------------- gateway keys

async function keysTab() {
  let found;
  try {
    found = await ask("keys");
  } catch (error) {
    panel().replaceChildren(h("h2", {}, "Gateway keys"), h("p", { class: "note" }, error.message));
    return;
  }
  const rows = found.keys.map((each) => [
    [each.name, NAME], [each.scopes.join(", "), "wide"], [each.endpoints?.join(", ") ?? "all"], [each.owner ?? "—"], [each.note ?? "—", "wide"],
    [each.expires_at ? clock(each.expires_at) : "never", TIME], [each.last_used_at ? clock(each.last_used_at) : "never", TIME],
    [h("span", { class: "d-flex gap-2" },
      h("button", { type: "button", class: "button small", "aria-label": `Replace … the key ${each.name}`, onclick: () => keyForm(`Replace the key ${each.name}`, GRACE, `keys/${each.id}/rotate`, "Replace") }, "Replace …"),
      h("button", { type: "button", class: "button small danger", "aria-label": `End … the key ${each.name}`, onclick: () => endKey(each) }, "End …"))],
  ]);
  panel().replaceChildren(h("h2", {}, "Gateway keys"), note("For systems that have no token of the Hub. People need none."),
    h("p", { class: "d-flex" }, h("button", { type: "button", class: "primary", onclick: () => keyForm("Make a key", WISH, "keys", "Make it") }, "Make a key …")),
    rows.length ? table([["Name"], ["Scopes"], ["Models"], ["Owner"], ["Note"], ["Ends"], ["Last used"], ["Change"]], rows, "Gateway keys") : note("There is none."));
}

const WISH = [["name", "Name", "", true], ["scopes", "Scopes, with blanks between", "chat:create", true], ["expires", "Ends after, such as 90d, or never", "90d", true],
  ["endpoints", "Models, with blanks between (empty: all)", ""], ["owner", "Who answers for it", ""], ["note", "What it is for", ""]];
const GRACE = [["grace", "How long the old one goes on, such as 24h (empty: not at all)", ""]];

function keyForm(title, inputs, path, verb) {
  const wrong = h("p", { class: "problem", role: "alert" });
  const form = h("form", { class: "settings" }, inputs.map(([name, text, value, required]) => field(text, h("input", { name, value, required, autocomplete: "off" }))),
    wrong, h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, verb)));
  const box = dialog(title, form);
  form.elements[0].focus();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const values = Object.entries(Object.fromEntries(new FormData(form))).map(([name, value]) => [name, value.trim()]).filter(([, value]) => value);
    const body = Object.fromEntries(values.map(([name, value]) => [name, ["scopes", "endpoints"].includes(name) ? value.split(/\s+/) : value]));
    try {
      const made = await ask(path, { method: "POST", body });
      box.close();
      await keysTab();
      dialog(`The key ${made.name}`, h("p", {}, "It is shown this once. Whoever has it can use the gateway as the key."), snippet(made.key, "key"));
    } catch (error) {
      wrong.textContent = error.message;
    }
  });
}

function endKey(each) {
  const wrong = h("p", { class: "problem", role: "alert" });
  const form = h("form", {}, h("p", {}, `What uses the key ${each.name} is refused from now on.`), wrong, h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "End it")));
  const box = dialog(`End the key ${each.name}?`, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await ask(`keys/${each.id}`, { method: "DELETE" });
      box.close();
      announce(`The key ${each.name} is over.`);
      await keysTab();
    } catch (error) {
      wrong.textContent = error.message;
    }
  });
}

// ---------------------------------------------------------------- configuration and audit

const times = (number) => (number === 1 ? "once" : number ? `${whole.format(number)} times` : "never");

async function configurationTab() {
  const found = await ask("configuration");
  const facts = [
    ["In use since", clock(found.loaded_at)], ["Files", found.files.join(", ") || "none"], ["Loaded", times(found.successes)], ["Refused", times(found.failures)], ["Time zone", found.time_zone],
    ["Ledger", found.ledger.kind ? `${found.ledger.kind}, requests kept ${found.ledger.retention_days === null ? "for ever" : `${found.ledger.retention_days} days`}` : "none"],
    ["Limits are counted in", found.store.kind ?? "this process"], ["Of several policies", found.combine === "max" ? "the largest limit counts" : found.combine === "min" ? "the smallest limit counts" : `the ${found.combine} of the limits counts`],
  ];
  const endpoints = found.endpoints.map((each) => [
    [each.name, NAME], [each.endpoint_type.replace("llm/v1/", "")], [each.deployments.map((own) => `${own.provider}${own.model ? ` · ${own.model}` : ""}`).join("; "), "wide"],
    [each.scope ?? "—"], [each.limit ?? "—"], [[each.order, each.retries ? `, ${each.retries} retries` : "", each.fallbacks.length ? `, then ${each.fallbacks.join(", ")}` : "", each.at_limit.length ? `; at a used-up budget ${each.at_limit.join(", ")}` : ""]], [[each.hidden ? "hidden " : "", each.aliases.join(", ")]],
  ]);
  const policies = found.policies.map((each) => [
    [each.name], [amount(each.resource, each.limit), NUMBER], [RESOURCES[each.resource]], [each.window ?? "—"], [each.count], [scopeText(each.scope), "wide"], [each.endpoints.join(", ") || "all"], [[each.shadow ? "shadow " : "", each.starts ? `from ${each.starts} ` : "", each.ends ? `to ${each.ends}` : ""]],
  ]);
  panel().replaceChildren(h("h2", {}, "Configuration in use"),
    found.last_error ? h("div", { class: "panel mb-3", role: "alert" }, tag("The newest file is not in use", "failed"), h("p", { class: "problem" }, found.last_error)) : h("p", {}, tag("The newest file is in use", "ready")),
    ...found.warnings.map((text) => h("p", { class: "problem" }, text)),
    h("dl", { class: "facts-list" }, facts.map(([name, text]) => [h("dt", {}, name), h("dd", {}, text)])),
    h("section", {}, h("h2", {}, "Endpoints"), endpoints.length ? table([["Name"], ["Type"], ["Where"], ["Scope"], ["Own limit"], ["Order"], ["Other"]], endpoints, "Endpoints") : note("None.")),
    h("section", {}, h("h2", {}, "Policies"), policies.length ? table([["Name"], ["Limit", NUMBER], ["Of"], ["Per"], ["For each"], ["Who"], ["Models"], ["Other"]], policies, "Policies") : note("None.")),
    h("details", { class: "mt-3" }, h("summary", {}, "All of it, as JSON"), h("pre", { class: "codebox", tabindex: 0, role: "group", "aria-label": "Configuration as JSON" }, JSON.stringify(found, null, 2))));
}

const scopeText = (scope) => Object.entries(scope).filter(([, names]) => names.length).map(([kind, names]) => `${kind} ${names.join(", ")}`).join("; ") || "everyone";

const ACTIONS = {
  "override.create": "Made an override", "override.revoke": "Ended an override", "request.stop": "Stopped a request", "limits.set": "Set a limit",
  "usage.view": "Looked at the usage of", "usage.export": "Exported the usage of",
  "key.create": "Made a key", "key.rotate": "Replaced a key", "key.revoke": "Ended a key", "key.import": "Imported keys",
};

/** Say what an action was about, and its details in words; what is not known here is shown as it was written. */
function wordsOf({ action, object, detail }, overrides) {
  if (action.startsWith("usage.")) return [object === "*" ? "everybody" : who(object), ""];
  if (action.startsWith("override.")) {
    const made = action === "override.create" ? detail : overrides.get(object);
    if (!made) return [object, ""];
    const more = made.resource === "cost_usd" ? money(made.amount) : `${whole.format(made.amount)} ${RESOURCES[made.resource]}`;
    return [who(made.who), `${made.amount > 0 ? "+" : ""}${more}${made.policy ? ` of ${made.policy}` : ""}, until ${clock(made.ends)}: ${made.reason}`];
  }
  if (action === "request.stop") return [who(detail.caller ?? object), [detail.endpoint, detail.reason].filter(Boolean).join(": ")];
  const facts = Object.entries(detail).filter(([name, value]) => name !== "id" && value !== null && value !== "" && value?.length !== 0);
  return [object, facts.map(([name, value]) => `${name.replaceAll("_", " ")}: ${Array.isArray(value) ? value.join(", ") : typeof value === "object" ? JSON.stringify(value) : value}`).join("; ")];
}

async function auditTab() {
  const { audit } = await ask("audit?limit=200");
  const overrides = new Map(audit.filter((each) => each.action === "override.create").map((each) => [each.object, each.detail]));
  const rows = audit.map((each) => {
    const [what, details] = wordsOf(each, overrides);
    return [[clock(each.at), TIME], [who(each.actor), NAME], [ACTIONS[each.action] ?? each.action], [what, NAME], [details, "wide"]];
  });
  panel().replaceChildren(h("h2", {}, "What staff did"), rows.length ? table([["When"], ["Who"], ["What"], ["To whom or what"], ["Details"]], rows, "What staff did") : note("Nothing yet."),
    rows.length === 200 ? note("The newest 200.") : "");
}

// ---------------------------------------------------------------- the page

const TABS = [
  ["usage", "Usage", usageTab],
  ["limits", "Limits", limitsTab],
  ...(IS_ADMIN ? [["models", "Models", modelsTab], ["inflight", "In flight", inflightTab], ["keys", "Keys", keysTab], ["configuration", "Configuration", configurationTab], ["audit", "Audit log", auditTab]] : []),
];

async function show(id) {
  leave();
  leave = () => {};
  history.replaceState(null, "", `#${id}`);
  panel().setAttribute("aria-labelledby", `tab-${id}`);
  panel().replaceChildren(note("Asking …"));
  try {
    await TABS.find(([name]) => name === id)[2]();
  } catch (error) {
    panel().replaceChildren(error.status === 404 ? note(error.message) : problem(error));
  }
}

const first = location.hash.slice(1);
at("tabs").replaceChildren(tabs("staff", TABS, TABS.some(([id]) => id === first) ? first : "usage", show));
