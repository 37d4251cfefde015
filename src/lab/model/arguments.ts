import { invalidArgument, isList, isObject, isRef, type LabObject, type LabRef, type LabValue } from '../wire/index.ts'

/** Readers of decoded arguments: the value of the expected kind, or undefined; `need…` fault InvalidArgument instead. */
type Fields = Readonly<Record<string, LabValue>> | LabObject | undefined

export const text = (from: Fields, name: string): string | undefined => {
  const value = from?.[name]
  return typeof value === 'string' ? value : undefined
}
export const number = (from: Fields, name: string): number | undefined => {
  const value = from?.[name]
  return typeof value === 'number' ? value : typeof value === 'bigint' ? Number(value) : undefined
}
export const flag = (from: Fields, name: string): boolean | undefined => {
  const value = from?.[name]
  return typeof value === 'boolean' ? value : undefined
}
export const object = (from: Fields, name: string): LabObject | undefined => {
  const value = from?.[name]
  return isObject(value) ? value : undefined
}
export const reference = (from: Fields, name: string): LabRef | undefined => {
  const value = from?.[name]
  return isRef(value) ? value : undefined
}
export const objects = (from: Fields, name: string): LabObject[] => items(from, name).filter(isObject)
export const references = (from: Fields, name: string): LabRef[] => items(from, name).filter(isRef)
export const texts = (from: Fields, name: string): string[] => items(from, name).filter((value) => typeof value === 'string')

export const needText = (from: Fields, name: string): string => text(from, name) ?? missing(name)
export const needNumber = (from: Fields, name: string): number => number(from, name) ?? missing(name)
export const needObject = (from: Fields, name: string): LabObject => object(from, name) ?? missing(name)
export const needReference = (from: Fields, name: string): LabRef => reference(from, name) ?? missing(name)

/** OptionValues as plain text by key. */
export function options(from: Fields, name: string): [key: string, value: string][] {
  return objects(from, name).flatMap((option): [string, string][] => {
    const key = text(option, 'key')
    if (key === undefined) return []
    const { value } = option
    const inner = isObject(value) && 'value' in value ? value.value : value
    return [
      [
        key,
        typeof inner === 'string' || typeof inner === 'number' || typeof inner === 'bigint' || typeof inner === 'boolean' ? `${inner}` : '',
      ],
    ]
  })
}

function items(from: Fields, name: string): readonly LabValue[] {
  const value = from?.[name]
  if (value === undefined) return []
  return isList(value) ? value : [value]
}

function missing(name: string): never {
  throw invalidArgument(name)
}
