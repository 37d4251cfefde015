import { AgentError } from '../core/index.ts'

export type Greeting = { readonly nfcSsl: boolean; readonly sha256: boolean }

/** The line authd sends first: `220 text: item, item…`. UNAVAILABLE when it refuses us, INTEGRITY when it is no authd or one without TLS. */
export function parseGreeting(line: string, host: string): Greeting {
  const shown = JSON.stringify(line.slice(0, 120))
  if (/^[45]\d\d/.test(line))
    throw new AgentError('UNAVAILABLE', `${host} refuses NFC connections now (${shown}).`, { subject: host, retry: 'later' })
  const items = /^220 [^:]*: (.*)$/.exec(line)?.[1]?.split(',')
  if (items === undefined) {
    throw new AgentError('INTEGRITY', `What answers on the NFC port of ${host} is no VMware authentication daemon (${shown}).`, {
      subject: host,
    })
  }
  const names = new Set(items.map((item) => (item.split('/', 1)[0] ?? '').trim()))
  if (!names.has('SSL Required')) {
    throw new AgentError('INTEGRITY', `${host} offers NFC without TLS, which is refused (${shown}).`, {
      subject: host,
      next: 'Hosts from ESXi 7.0.3 on are supported; use another transport for this one.',
    })
  }
  return { nfcSsl: names.has('NFCSSL supported'), sha256: names.has('SHA256 supported') }
}
