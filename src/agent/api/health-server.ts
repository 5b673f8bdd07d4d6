import { createServer } from 'node:http';
import type { AgentAnswers } from './answers.ts';

/** Answers health and metrics by plain HTTP, for kubelets and Prometheus. They tell no secrets. Rejects when the port is taken. */
export async function healthServer(
  answers: AgentAnswers,
  options: { address: string; port: number; onError: (error: unknown) => void },
): Promise<{ port: number; close(): Promise<void> }> {
  const server = createServer({ maxHeaderSize: 8_192, requestTimeout: 10_000, headersTimeout: 5_000 }, (request, response) => {
    request.resume();
    answers(request.method ?? '', request.url ?? '')
      .then(({ code, contentType, body }) => {
        response.writeHead(code, { 'content-type': contentType, 'content-length': Buffer.byteLength(body), 'cache-control': 'no-store' });
        response.end(request.method === 'HEAD' ? undefined : body);
      })
      .catch((error: unknown) => {
        options.onError(error);
        response.destroy();
      });
  });
  server.maxConnections = 100;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.address, () => {
      server.off('error', reject);
      resolve();
    });
  });
  server.on('error', options.onError);
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : options.port,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}
