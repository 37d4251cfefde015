import type { Vsphere } from './vsphere.ts'

/** The name or address a server is reached under, without the port. */
export const endpointName = ({ host }: Pick<Vsphere, 'host'>): string => new URL(`https://${host}`).hostname.replace(/^\[|\]$/g, '')
