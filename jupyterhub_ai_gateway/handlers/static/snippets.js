// Cells to paste, for each model and each kind of client; for a server of this Hub, and for anywhere else.
// A server of the Hub has OPENAI_BASE_URL and OPENAI_API_KEY in its environment, so nothing is to be typed.

const python = JSON.stringify; // a JSON string is a Python, R and TOML string as well
const shell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

const CHAT = "/v1/chat/completions";
const EMBEDDINGS = "/v1/embeddings";
const COMPLETIONS = "/v1/completions";
const MESSAGES = "/v1/messages";
const RESPONSES = "/v1/responses";

const CELL = "a notebook cell";
const R_CELL = "a cell of an R notebook, or R’s console";
const TERMINAL = "a terminal";

const outside = (isInside, url) =>
  isInside ? ["from openai import OpenAI\n", "client = OpenAI()"]
    : ["from getpass import getpass\n\nfrom openai import OpenAI\n", `client = OpenAI(base_url=${python(url)}, api_key=getpass("Token: "))`];

/** For each path: what Python calls and prints, and what curl sends; the first that a model has counts. */
const CALLS = [
  [CHAT, (model) => `answer = client.chat.completions.create(\n    model=${model},\n    messages=[{"role": "user", "content": "Hello!"}],\n)\nprint(answer.choices[0].message.content)`,
    { messages: [{ role: "user", content: "Hello!" }] }],
  [EMBEDDINGS, (model) => `answer = client.embeddings.create(model=${model}, input=["First text", "Second text"])\nprint([len(each.embedding) for each in answer.data])`,
    { input: ["First text"] }],
  [COMPLETIONS, (model) => `answer = client.completions.create(model=${model}, prompt="Once upon a time", max_tokens=50)\nprint(answer.choices[0].text)`,
    { prompt: "Once upon a time", max_tokens: 50 }],
  ["/v1/images/generations", (model) => `answer = client.images.generate(model=${model}, prompt="A lighthouse at dusk")\nprint(answer.data[0].url or len(answer.data[0].b64_json))`,
    { prompt: "A lighthouse at dusk" }],
  ["/v1/audio/speech", (model) => `speech = client.audio.speech.create(model=${model}, voice="alloy", input="Hello!")\nspeech.write_to_file("speech.mp3")`,
    { voice: "alloy", input: "Hello!" }, " -o speech.mp3"],
  ["/v1/audio/transcriptions", (model) => `with open("recording.mp3", "rb") as file:\n    print(client.audio.transcriptions.create(model=${model}, file=file).text)`, null],
  ["/v1/moderations", (model) => `answer = client.moderations.create(model=${model}, input="Some text")\nprint(answer.results[0].flagged)`,
    { input: "Some text" }],
  ["/v1/rerank", (model) => `documents = ["Bergen is in Norway", "Bread needs flour"]\nbody = {"model": ${model}, "query": "Where is Bergen?", "documents": documents}\nprint(client.post("/rerank", body=body, cast_to=object))`,
    { query: "Where is Bergen?", documents: ["Bergen is in Norway", "Bread needs flour"] }],
];

const callOf = (paths) => CALLS.find(([path]) => paths.includes(path));

function pythonCell(model, isInside, url, paths) {
  const [head, client] = outside(isInside, url);
  return `${head}\n${client}\n${callOf(paths)[1](python(model))}`;
}

function curlCell(model, isInside, url, paths) {
  const [path, , body, more = ""] = callOf(paths);
  const content = body === null
    ? `-F model=${shell(model)} -F file=@recording.mp3`
    : `-H "Content-Type: application/json" \\\n  -d ${shell(JSON.stringify({ model, ...body }))}`;
  const call = (base, key) => `curl -sS${more} "${base}/${path.slice(4)}" \\\n  -H "Authorization: Bearer $${key}" \\\n  ${content}`;
  return isInside ? `%%bash\n${call("$OPENAI_BASE_URL", "OPENAI_API_KEY")}` : `read -rsp "Token: " TOKEN; echo\n${call(url, "TOKEN")}`;
}

function rCell(model, isInside, url) {
  const base = isInside ? 'Sys.getenv("OPENAI_BASE_URL")' : python(url);
  const key = isInside ? 'Sys.getenv("OPENAI_API_KEY")' : 'askpass::askpass("Token: ")';
  return `library(httr2)\n\nanswer <- request(${base}) |>\n  req_url_path_append("chat/completions") |>\n  req_auth_bearer_token(${key}) |>\n  req_body_json(list(\n    model = ${python(model)},\n    messages = list(list(role = "user", content = "Hello!"))\n  )) |>\n  req_error(body = \\(answer) resp_body_json(answer)$error$message) |>\n  req_perform() |>\n  resp_body_json()\ncat(answer$choices[[1]]$message$content)`;
}

function anthropicCell(model, isInside, url) {
  const root = url.replace(/\/v1$/, "");
  const [head, base, key] = isInside
    ? ["import os\n", 'os.environ["OPENAI_BASE_URL"].removesuffix("/v1")', 'os.environ["OPENAI_API_KEY"]']
    : ["from getpass import getpass\n", python(root), 'getpass("Token: ")'];
  return `${head}\nfrom anthropic import Anthropic\n\nclient = Anthropic(base_url=${base}, auth_token=${key})\nmessage = client.messages.create(\n    model=${python(model)},\n    max_tokens=1000,\n    messages=[{"role": "user", "content": "Hello!"}],\n)\nprint(message.content[0].text)`;
}

const given = (isInside, url) =>
  isInside ? "" : `export OPENAI_BASE_URL=${shell(url)}\nread -rsp "Token: " OPENAI_API_KEY; echo; export OPENAI_API_KEY\n`;

const claudeCode = (model, isInside, url) =>
  `${given(isInside, url)}ANTHROPIC_BASE_URL="\${OPENAI_BASE_URL%/v1}" ANTHROPIC_AUTH_TOKEN="$OPENAI_API_KEY" \\\n  ANTHROPIC_MODEL=${shell(model)} claude`;

const codex = (model, isInside, url) =>
  `${given(isInside, url)}codex --model ${shell(model)} -c web_search=disabled -c model_provider=hub \\\n  -c model_providers.hub.name=Hub -c model_providers.hub.wire_api=responses \\\n  -c model_providers.hub.base_url="$OPENAI_BASE_URL" -c model_providers.hub.env_key=OPENAI_API_KEY`;

function openCode(model, isInside, url) {
  const provider = {
    npm: "@ai-sdk/openai-compatible", name: "Hub",
    options: { baseURL: "{env:OPENAI_BASE_URL}", apiKey: "{env:OPENAI_API_KEY}" },
    models: { [model]: { name: model } },
  };
  const config = { $schema: "https://opencode.ai/config.json", model: `hub/${model}`, provider: { hub: provider } };
  return `${given(isInside, url)}OPENCODE_CONFIG_CONTENT=${shell(JSON.stringify(config))} \\\n  opencode`;
}

/** Return what can be pasted for a model: an id, a name, where it goes, the cells, and a remark. */
export function snippetsOf(model, isInside, url) {
  const { id, paths } = model;
  const is = (path) => paths.includes(path);
  const all = [
    [Boolean(callOf(paths)), "python", "Python", CELL, () => [pythonCell(id, isInside, url, paths)], "Needs the package openai."],
    [is(CHAT) && isInside, "magic", "%%ai", CELL, () => ["%load_ext jupyter_ai_magics", `%%ai openai-chat-custom:${id}\nHello!`],
"Needs Jupyter AI 2: the packages jupyter-ai-magics (before 3) and langchain-openai."],
    [is(CHAT) && isInside, "magic3", "%%ai, Jupyter AI 3", CELL, () => ["%load_ext jupyter_ai_magic_commands", `%ai alias hub openai/${id}`, "%%ai hub\nHello!"],
      "Needs Jupyter AI 3: the package jupyter-ai-magic-commands."],
    [Boolean(callOf(paths)), "curl", "curl", isInside ? CELL : TERMINAL, () => [curlCell(id, isInside, url, paths)], isInside ? "In a terminal leave out the first line." : ""],
    [is(CHAT), "r", "R", R_CELL, () => [rCell(id, isInside, url)], isInside ? "Needs R 4.1 or newer and the package httr2 (Debian: r-cran-httr2)." : "Needs R 4.1 or newer and the packages httr2 and askpass (Debian: r-cran-httr2, r-cran-askpass)."],
    [is(MESSAGES), "anthropic", "Anthropic SDK", CELL, () => [anthropicCell(id, isInside, url)], "Needs the package anthropic."],
    [is(MESSAGES), "claude", "Claude Code", TERMINAL, () => [claudeCode(id, isInside, url)], ""],
    [is(RESPONSES), "codex", "Codex", TERMINAL, () => [codex(id, isInside, url)], ""],
    [is(CHAT), "opencode", "OpenCode", TERMINAL, () => [openCode(id, isInside, url)], ""],
  ];
  return all.filter(([fits]) => fits).map(([, key, name, place, cells, remark]) => ({ key, name, place, cells: cells(), remark }));
}

/** Return the scopes that a token needs to call a model, as the Hub's token page wants them. */
export const scopesFor = (service, model) =>
  `access:services!service=${service} custom:${service}:${model.operation}${model.scope ? ` ${model.scope}` : ""}`;
