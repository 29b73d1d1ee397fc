// What a client does with the server, the same with both TypeScript SDKs. Prints what it saw as one JSON object.

const information = { name: "shoptalk-tests", version: "1" };

export async function session(makeClient, transport) {
  const client = makeClient(information);
  await client.connect(transport);
  const saw = {};
  const call = async (name, args, options) => {
    const result = await client.callTool({ name, arguments: args }, ...options);
    if (result.isError) throw new Error(JSON.stringify(result.content));
    return result;
  };
  const bare = client.sdk === 1 ? (options) => [undefined, options] : (options) => [options];

  saw.tools = (await client.listTools()).tools.map((tool) => tool.name);
  saw.templates = (await client.listResourceTemplates()).resourceTemplates.map((template) => template.uriTemplate);
  const found = await call("search_corpus", { query: "paid holiday", mode: "lexical" }, bare({}));
  saw.hit = found.structuredContent.hits[0].document_id;
  saw.text = found.content[0].text.slice(0, 60);
  saw.document = (await client.readResource({ uri: found.structuredContent.hits[0].uri })).contents[0].text;
  try {
    await call("search_corpus", { query: "x", nonsense: 1 }, bare({}));
  } catch (error) {
    saw.refused = String(error.message);
  }

  // The client gives up long before the job is done; the job does not.
  try {
    await call("reindex", { mode: "full", wait_seconds: 50 }, bare({ timeout: 500 }));
  } catch (error) {
    saw.gaveUp = String(error.message);
  }
  const status = await call("model_status", {}, bare({}));
  saw.running = status.structuredContent.jobs[0].state;
  const progress = [];
  const options = { timeout: 60000, onprogress: (told) => progress.push(told.progress) };
  const done = await call("reindex", { job_id: status.structuredContent.jobs[0].job_id, wait_seconds: 50 }, bare(options));
  saw.done = [done.structuredContent.state, done.structuredContent.generation];
  saw.progress = progress;

  const second = await call("reindex", { mode: "full", wait_seconds: 0 }, bare({}));
  const cancelled = await call("reindex", { job_id: second.structuredContent.job_id, cancel: true, wait_seconds: 50 }, bare({}));
  saw.cancelled = cancelled.structuredContent.state;

  const abort = new AbortController();
  const waiting = call("reindex", { mode: "full", wait_seconds: 50 }, bare({ signal: abort.signal, onprogress: () => abort.abort("enough") }));
  saw.aborted = await waiting.then(() => "no", () => "yes");
  const third = await call("reindex", { cancel: true, wait_seconds: 50 }, bare({}));
  saw.stopped = third.structuredContent.state;
  await client.close();
  console.log(JSON.stringify(saw));
}
