import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

/** The other end of NOTIFY_SOCKET: hears what a service manager would hear, as systemd does, descriptors of a barrier closed. */
export type SupervisorSocket = AsyncDisposable & {
  readonly path: string
  /** Each datagram, its lines joined by a space; barriers left out. */
  readonly heard: readonly string[]
}

const SERVER = `
import array, os, socket, sys
end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
end.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
print('bound', flush=True)
while True:
    data, more, _, _ = end.recvmsg(65536, socket.CMSG_LEN(64))
    for level, kind, held in more:
        for fd in array.array('i', held[:len(held) // 4 * 4]):
            os.close(fd)
    if data != b'BARRIER=1':
        print(data.decode().strip().replace(chr(10), ' '), flush=True)
`

/** `python`: Node has no datagrams over Unix sockets. */
export async function openSupervisorSocket(python: string, path: string): Promise<SupervisorSocket> {
  const child = spawn(python, ['-c', SERVER, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  const heard: string[] = []
  const lines = createInterface({ input: child.stdout })
  await once(lines, 'line')
  lines.on('line', (line: string) => void heard.push(line))
  return {
    path,
    heard,
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL')
      await exited
    },
  }
}
