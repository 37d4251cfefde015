/**
 * Reads files through a shell the way the transport `ssh` does, as a process of its own. `node bench/read-ssh.ts PORT USER KEY FINGERPRINT SERVER BYTES
 * FILE…` prints one line of JSON; BYTES are read in all, of each file its share; SERVER is the pid whose processor time counts too.
 */
import { readFileSync } from 'node:fs'
import { Secret, silentLog, systemClock } from '../src/core/index.ts'
import { createSshHosts, openRemoteFiles } from '../src/ssh/index.ts'
import { type Reader, readTimed } from './read-timed.ts'

const [port = '', user = '', key = '', fingerprint = '', server = '', bytes = '0', ...files] = process.argv.slice(2)

await using stack = new AsyncDisposableStack()
const text = new Secret(readFileSync(key, 'utf8'))
const host = {
  name: 'sshd',
  address: '127.0.0.1',
  port: Number(port),
  user,
  login: async () => ({ key: { path: key, text } }),
  pin: async () => ({ fingerprints: [fingerprint] }),
}
const hosts = stack.use(createSshHosts([host], { clock: systemClock, log: silentLog }))
const readers: Reader[] = []
for (const file of files) readers.push(await stack.use(await openRemoteFiles(await hosts.connect('sshd'))).open(file))
console.log(JSON.stringify(await readTimed(readers, Number(bytes), 1, Number(server))))
