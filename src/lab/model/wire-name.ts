/** `/`, `\` and `%` in names of the inventory are escaped on the wire. */
export const escapeName = (name: string): string => name.replace(/[%/\\]/g, (character) => `%${character.charCodeAt(0).toString(16)}`)
