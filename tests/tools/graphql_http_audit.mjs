// Audits a GraphQL endpoint with the npm package graphql-http.
//
//   node tests/tools/graphql_http_audit.mjs URL [FOLDER]
//
// FOLDER, or else TOLLGATE_TEST_GRAPHQL_HTTP, holds the node_modules with the package. The API key comes in
// TOLLGATE_TEST_KEY, so that it stands on no command line. Prints one line an audit, `STATUS ID NAME`, with the reason and the
// answer below what failed; the last line is a JSON summary. Exits 1 when there are errors or warnings, or nobody answers.

import { createRequire } from 'node:module';
import { resolve } from 'node:path';

const ANSWER_TIMEOUT_MS = 10_000;

const [url, folder = process.env.TOLLGATE_TEST_GRAPHQL_HTTP] = process.argv.slice(2);
const key = process.env.TOLLGATE_TEST_KEY;
if (!url || !folder || !key) {
  console.error('usage: TOLLGATE_TEST_KEY=KEY node graphql_http_audit.mjs URL FOLDER');
  process.exit(2);
}
const { serverAudits } = createRequire(resolve(folder, 'package.json'))('graphql-http');

/** As `fetch`, with the key. The body is read to its end, because most audits do not, and would each hold a connection. */
async function fetchFn(target, init = {}) {
  const headers = new Headers(init.headers);
  headers.set('authorization', `Bearer ${key}`);
  const answer = await fetch(target, { ...init, headers, signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS) });
  const body = await answer.arrayBuffer();
  return new Response(body.byteLength > 0 ? body : null, { status: answer.status, headers: answer.headers });
}

const plural = { ok: 'ok', notice: 'notices', warn: 'warnings', error: 'errors' };
const summary = { total: 0, ok: 0, notices: 0, warnings: 0, errors: 0 };
// One after the other, so that what is printed is the same each time.
for (const audit of serverAudits({ url, fetchFn })) {
  const result = await audit.fn();
  summary.total += 1;
  summary[plural[result.status]] += 1;
  console.log(`${result.status} ${result.id} ${result.name}`);
  if (result.status !== 'ok') {
    const { status, headers } = result.response;
    const body = result.response.bodyUsed ? '' : await result.response.text();
    console.log(`    ${result.reason}: ${status} ${headers.get('content-type')} ${body}`);
  }
}
console.log(JSON.stringify(summary));
process.exitCode = summary.errors + summary.warnings > 0 ? 1 : 0;
