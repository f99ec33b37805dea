// The page of one's own use: sums, limits, days, and the latest requests explained.

import { ask, at, day, daysBetween, dayText, h, limitCards, measureOf, money, NAME, note, requestTable, stackedBars, sums, SUMS, table, TIME, who, whole, zoneNote } from "./parts.js";

function showTotals(total) {
  const pairs = [
    ["Requests", total ? whole.format(total.requests) : "0"],
    ["Input tokens", total ? whole.format(total.input_tokens) : "0"],
    ["Output tokens", total ? whole.format(total.output_tokens) : "0"],
    ["Cost", total ? money(total.cost_usd) : "$0.00"],
  ];
  if (total?.unpriced) pairs.push(["Without a price", whole.format(total.unpriced)]);
  at("totals").replaceChildren(...pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function showLimits(limits) {
  at("limits").hidden = !limits;
  at("limit-cards").replaceChildren(...limitCards(limits ?? []));
}

function showModels(rows, hasUsers) {
  const heads = [...(hasUsers ? [["Who"]] : []), ["Model"], ["Charged to"], ...SUMS];
  const lines = rows.map((row) => [...(hasUsers ? [[who(row.user), NAME]] : []), [row.endpoint, NAME], [row.group ?? (hasUsers ? "themselves" : "yourself"), NAME], ...sums(row)]);
  at("by-model").replaceChildren(lines.length ? table(heads, lines, "Use by model and group") : note("Nothing in this time."));
}

let hasChosen = false; // true once the person said what the picture shows
let asked = 0;

async function show() {
  const mine = ++asked;
  const status = at("status");
  status.hidden = false;
  status.textContent = "Asking …";
  const asked_ = at("user")?.value.trim() ?? "";
  const whose = asked_ ? `&user=${encodeURIComponent(asked_)}` : "";
  const [since, until] = [day(-Number(at("days").value)), day(0)];
  const time = `since=${since}&until=${until}${whose}`;
  const by = asked_ === "*" ? "user,endpoint,group" : "endpoint,group";
  try {
    const [days, models, latest] = await Promise.all([
      ask(`usage?by=day,endpoint&${time}`),
      ask(`usage?by=${by}&order=cost_usd&limit=200&${time}`),
      ask(`requests?limit=20${whose}`),
    ]);
    if (mine !== asked) return;
    showTotals(days.total);
    showLimits(days.limits);
    at("found").hidden = false;
    if (!hasChosen) at("measure").value = measureOf(days.usage);
    at("zone").textContent = zoneNote();
    stackedBars(at("chart"), { rows: days.usage, days: daysBetween(since, until), by: "endpoint", measure: at("measure").value });
    const lines = [...days.usage].reverse().map((row) => [[dayText(row.day), TIME], [row.endpoint, NAME], ...sums(row)]);
    at("by-day").replaceChildren(lines.length ? table([["Day"], ["Model"], ...SUMS], lines, "Use by day") : note("Nothing in this time."));
    showModels(models.usage, asked_ === "*");
    at("requests").replaceChildren(requestTable(latest.requests, asked_ === "*"));
    status.hidden = true;
  } catch (error) {
    if (mine !== asked) return;
    at("found").hidden = true;
    status.textContent = error.message;
  }
}

at("choice").addEventListener("submit", (event) => {
  event.preventDefault();
  show();
});
at("days").addEventListener("change", show);
at("measure").addEventListener("change", () => {
  hasChosen = true;
  show();
});
show();
