import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import ssh2 from 'ssh2'
import { ensureDirectory, isMissing, writeFileAtomic } from '../../core/index.ts'

/** A key pair in OpenSSH's form, kept in the lab's directory; made once, so that a pinned host stays the same host. */
export type LabKey = { readonly path: string; readonly private: string; readonly public: string; readonly fingerprint: string }

export async function labKey(directory: string, name: string): Promise<LabKey> {
  await ensureDirectory(directory)
  const path = join(directory, name)
  try {
    return keyOf(path, await readFile(path, 'utf8'), (await readFile(`${path}.pub`, 'utf8')).trim())
  } catch (error) {
    if (!isMissing(error)) throw error
  }
  const made = readableKey()
  await writeFileAtomic(`${path}.pub`, `${made.public}\n`)
  await writeFileAtomic(path, made.private)
  return keyOf(path, made.private, made.public)
}

/** ssh2 1.17 writes one ed25519 key in 256 so that it cannot read it itself. */
function readableKey(): ReturnType<typeof ssh2.utils.generateKeyPairSync> {
  for (;;) {
    const made = ssh2.utils.generateKeyPairSync('ed25519')
    if (!(ssh2.utils.parseKey(made.private) instanceof Error) && !(ssh2.utils.parseKey(made.public) instanceof Error)) return made
  }
}

const keyOf = (path: string, secret: string, open: string): LabKey => ({
  path,
  private: secret,
  public: open,
  fingerprint: `SHA256:${createHash('sha256')
    .update(Buffer.from(open.split(' ')[1] ?? '', 'base64'))
    .digest('base64')
    .replace(/=+$/, '')}`,
})
