// A program's calls to two providers inside a session of playback, opened and closed over plain HTTP:
// node session.mjs http://127.0.0.1:8802 MODE CASSETTE. It prints what its SDKs made of the answers, and the report.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { randomUUID } from "node:crypto";
import OpenAI from "openai";
import Anthropic from "@anthropic-ai/sdk";

const [playback, mode, cassette] = process.argv.slice(2);
const session = randomUUID();
const control = `${playback}/-/sessions/${session}`;
const base = `${playback}/~session=${session}`;

async function said(answer) {
  if (!answer.ok) throw new Error((await answer.json()).error.message);
  return answer;
}

const body = existsSync(cassette) ? readFileSync(cassette) : undefined;
await said(await fetch(`${control}?mode=${mode}`, { method: "PUT", body }));

const openai = new OpenAI({ baseURL: `${base}/openai/v1`, apiKey: process.env.OPENAI_API_KEY ?? "none", maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: `${base}/anthropic`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Why did the chicken? 🐔" }];
const found = {};

found.chat = await openai.chat.completions.create({ model: "answers", messages });
found.chunks = [];
for await (const chunk of await openai.chat.completions.create({ model: "answers", messages, stream: true })) {
  found.chunks.push(chunk);
}
found.message = await anthropic.messages.create({ model: "answers", max_tokens: 9, messages });
found.events = [];
for await (const event of await anthropic.messages.create({ model: "answers", max_tokens: 9, messages, stream: true })) {
  found.events.push(event);
}
try {
  await openai.chat.completions.create({ model: "refuses", messages });
} catch (error) {
  found.refused = { status: error.status, message: error.message };
}

if (mode !== "playback") {
  writeFileSync(cassette, await (await said(await fetch(`${control}/cassette`))).text());
}
const report = await (await said(await fetch(control, { method: "DELETE" }))).json();
console.log(JSON.stringify({ found, report }));
