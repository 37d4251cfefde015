/** A mounted file system as /proc/self/mountinfo lists it (proc(5)): octal escapes decoded. */
export type MountedFileSystem = {
  readonly mountPoint: string
  /** What of the file system is mounted there: `/`, or the directory of a bind mount. */
  readonly root: string
  readonly type: string
  readonly source: string
  /** Of the mount and of the file system, together. */
  readonly options: readonly string[]
}

/** Parses /proc/self/mountinfo. Lines that are not of its form are skipped: the kernel may add kinds. */
export function parseMountInfo(text: string): MountedFileSystem[] {
  const mounts: MountedFileSystem[] = []
  for (const line of text.split('\n')) {
    const fields = line.split(' ')
    const dash = fields.indexOf('-', 6)
    const [root, mountPoint, own] = [fields[3], fields[4], fields[5]]
    const [type, source, shared] = [fields[dash + 1], fields[dash + 2], fields[dash + 3]]
    if (dash === -1 || root === undefined || mountPoint === undefined || type === undefined || source === undefined) continue
    const options = [own, shared].flatMap((list) => list?.split(',') ?? [])
    mounts.push({ mountPoint: unescape(mountPoint), root: unescape(root), type, source: unescape(source), options })
  }
  return mounts
}

const unescape = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))

/** The mount that a directory lies on: the longest mount point above it, the last one where several lie on each other. */
export function mountOf(directory: string, mounts: readonly MountedFileSystem[]): MountedFileSystem | undefined {
  let found: MountedFileSystem | undefined
  for (const mount of mounts) {
    if (below(directory, mount.mountPoint) === undefined) continue
    if (found === undefined || mount.mountPoint.length >= found.mountPoint.length) found = mount
  }
  return found
}

/** What follows `top` in `path`, without a leading slash; undefined when it is not below it. Both absolute and without `..`. */
export function below(path: string, top: string): string | undefined {
  if (path === top) return ''
  const prefix = top.endsWith('/') ? top : `${top}/`
  return path.startsWith(prefix) ? path.slice(prefix.length) : undefined
}

export const isReadOnly = ({ options }: MountedFileSystem): boolean => options.includes('ro')
