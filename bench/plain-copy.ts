/**
 * The yardstick of a network transport: Node sends a file over one connection and another process takes it, with nothing else done to it.
 * `node bench/plain-copy.ts serve tcp|tls1.2|tls1.3 FILE [KEY CERTIFICATE]` prints its port and serves until it is ended;
 * `node bench/plain-copy.ts fetch tcp|tls1.2|tls1.3 PORT BYTES SERVER` prints one line of JSON.
 */
import { createReadStream, readFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { connect as connectTls, createServer as createTlsServer } from 'node:tls'
import { type ReadCost, startCost, WARM_UP } from './read-cost.ts'

/** What a stream of files is read with where speed counts. Bytes. */
const PIECE = 1024 * 1024
const [action, wire = '', ...rest] = process.argv.slice(2)
/** Of the transport that is compared: each version has its own ciphers. */
const version = wire === 'tls1.2' ? 'TLSv1.2' : 'TLSv1.3'

function serve(file: string, key: string, cert: string): void {
  const send = (socket: Socket): void => {
    createReadStream(file, { highWaterMark: PIECE }).pipe(socket)
    socket.on('error', () => socket.destroy())
  }
  const server =
    wire === 'tcp'
      ? createServer({ noDelay: true }, send)
      : createTlsServer({ key: readFileSync(key), cert: readFileSync(cert), minVersion: version, maxVersion: version }, send)
  server.listen(0, '127.0.0.1', () => {
    const address = server.address()
    console.log(typeof address === 'object' && address !== null ? address.port : 0)
  })
}

/** Counts what comes and drops it. */
async function fetchAll(port: number, bytes: number, server: number): Promise<ReadCost> {
  const socket: Socket =
    wire === 'tcp' ? connect({ port, host: '127.0.0.1' }) : connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false })
  let done: ReturnType<typeof startCost> | undefined
  let received = 0
  let warm = 0
  socket.on('data', (piece: Buffer) => {
    received += piece.length
    if (done === undefined && received >= WARM_UP) {
      warm = received
      done = startCost(server)
    }
  })
  await new Promise<void>((resolve, reject) => socket.once('end', resolve).once('error', reject))
  socket.destroy()
  if (received !== bytes) throw new Error(`${received} of ${bytes} bytes came`)
  if (done === undefined) throw new Error(`less than ${WARM_UP} bytes are not measured`)
  return done(received - warm)
}

if (action === 'serve') serve(rest[0] ?? '', rest[1] ?? '', rest[2] ?? '')
else console.log(JSON.stringify(await fetchAll(Number(rest[0]), Number(rest[1]), Number(rest[2]))))
