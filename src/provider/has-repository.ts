import { CONFIG_FILE, directoryBackend } from '../restic/index.ts'
import { parseProviderUrl } from './provider-url.ts'

/** Whether a complete restic repository is at a URL; needs no password. CONFIG (no access). */
export async function hasRepository(url: string): Promise<boolean> {
  const { scheme, path } = parseProviderUrl(url)
  if (scheme !== 'restic') return false
  await using backend = directoryBackend(path)
  return (await backend.stat(CONFIG_FILE)) !== undefined
}
