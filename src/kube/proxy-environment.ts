import { BlockList, isIP } from 'node:net';

/**
 * The proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY ask for, by Go's rules (golang.org/x/net/http/httpproxy), which kubectl follows when
 * the cluster has no proxy-url. Undefined: go direct.
 */
export function proxyFromEnvironment(server: URL, env: NodeJS.ProcessEnv): string | undefined {
  const names = server.protocol === 'https:' ? ['HTTPS_PROXY', 'https_proxy'] : ['HTTP_PROXY', 'http_proxy'];
  const proxy = names.map((name) => env[name]).find((value) => value);
  if (!proxy || bypassed(server, env['NO_PROXY'] || env['no_proxy'] || '')) return undefined;
  return proxy.includes('://') ? proxy : `http://${proxy}`;
}

function bypassed(server: URL, noProxy: string): boolean {
  const host = server.hostname.replace(/^\[|\]$/g, '').toLowerCase();
  const port = server.port || (server.protocol === 'https:' ? '443' : '80');
  if (host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))) return true;
  return noProxy
    .split(',')
    .map((entry) => entry.trim().toLowerCase())
    .filter((entry) => entry !== '')
    .some((entry) => matches(entry, host, port));
}

function matches(entry: string, host: string, port: string): boolean {
  if (entry === '*') return true;
  const [network, bits] = entry.split('/');
  if (network && bits && isIP(network)) {
    const family = isIP(network) === 6 ? 'ipv6' : 'ipv4';
    if (!isIP(host) || !/^\d+$/.test(bits) || Number(bits) > (family === 'ipv6' ? 128 : 32)) return false;
    const list = new BlockList();
    list.addSubnet(network, Number(bits), family);
    return list.check(host, isIP(host) === 6 ? 'ipv6' : 'ipv4');
  }
  const withPort = /^(\[[^\]]+\]|[^:]+):(\d+)$/.exec(entry);
  const name = (withPort?.[1] ?? entry).replace(/^\[|\]$/g, '').replace(/^\*\./, '.');
  if (withPort && withPort[2] !== port) return false;
  if (isIP(name)) return name === host;
  return name.startsWith('.') ? host.endsWith(name) : host === name || host.endsWith(`.${name}`);
}
