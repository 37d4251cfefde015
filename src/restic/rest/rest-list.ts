import { isHexId } from '../ids.ts'
import { JsonScanner } from '../json-scanner.ts'

export type ListedFile = { readonly name: string; readonly size: number }

/** The answer of version 2: files with sizes, foreign names left out. INTEGRITY. */
export function readSizedList(body: Buffer, what: string): readonly ListedFile[] {
  const scanner = new JsonScanner(body, what)
  const files: ListedFile[] = []
  // How Go writes a list that was never filled.
  if (scanner.null()) return files
  scanner.beginArray()
  while (scanner.nextElement()) {
    scanner.beginObject()
    let name: string | undefined
    let size: number | undefined
    for (let key = scanner.nextKey(); key !== undefined; key = scanner.nextKey()) {
      if (key === 'name') name = scanner.string()
      else if (key === 'size') size = scanner.uint()
      else scanner.skip()
    }
    if (name === undefined || size === undefined) return scanner.fail('a name with a size was expected')
    if (isHexId(name)) files.push({ name, size })
  }
  scanner.end()
  return files
}

/** The answer of version 1: names alone. INTEGRITY. */
export function readNameList(body: Buffer, what: string): readonly string[] {
  const scanner = new JsonScanner(body, what)
  const names: string[] = []
  if (scanner.null()) return names
  scanner.beginArray()
  while (scanner.nextElement()) {
    const name = scanner.string()
    if (isHexId(name)) names.push(name)
  }
  scanner.end()
  return names
}
