import { access, constants, stat } from 'node:fs/promises'
import { fromErrno, isMissing } from '../core/index.ts'

/** Permission bits: everybody may write, and all that `chmod` shows. */
const WRITABLE = 0o002
const PERMISSIONS = 0o777

/** Why a program of an administrator is not run: it is not there, not executable, or others than root and this user may change it. Undefined when it is fit. */
export async function unfitProgram(path: string): Promise<string | undefined> {
  try {
    const { mode, uid, ...found } = await stat(path)
    const isFile = (mode & constants.S_IFMT) === constants.S_IFREG
    if (found.size === 0 || !isFile) return `${path} is ${isFile ? 'empty' : 'not a file'}`
    if ((mode & WRITABLE) !== 0) return `${path} can be changed by everybody (mode ${(mode & PERMISSIONS).toString(8)}); chmod o-w it`
    if (uid !== 0 && uid !== process.getuid?.()) return `${path} belongs to user ${uid}, neither to root nor to the user vcb runs as`
    await access(path, constants.X_OK)
    return undefined
  } catch (error) {
    if (isMissing(error)) return `the program ${path} does not exist`
    if (error instanceof Error && 'code' in error && error.code === 'EACCES') return `${path} cannot be executed by the user vcb runs as`
    const refused = fromErrno(error, path)
    if (refused === undefined) throw error
    return refused.message.replace(/[.]$/u, '')
  }
}
