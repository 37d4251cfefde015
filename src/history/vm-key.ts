/** A VM as the key of a map. */
export const keyOf = (vcenterUuid: string, instanceUuid: string): string => JSON.stringify([vcenterUuid, instanceUuid])
