import { hash } from 'node:crypto'
import { isAgentError, type PointId, throwIfAborted } from '../core/index.ts'
import type { PointsCheck, Problem } from './provider.ts'

/** The part that a point's data belong to, by its name. */
const sliceOfPoint = (id: PointId): number => Number.parseInt(hash('sha256', id).slice(0, 2), 16)

/** Of destinations whose points stand each by itself: opens all of them, and reads the data of those that are wanted. `checkOne` throws what is wrong. */
export async function* checkPoints(
  points: readonly PointId[],
  options: PointsCheck,
  checkOne: (point: PointId, readData: boolean) => Promise<void>,
): AsyncGenerator<Problem> {
  const { slices } = options
  const one = async function* (point: PointId, readData: boolean, slice?: number): AsyncGenerator<Problem> {
    throwIfAborted(options)
    try {
      await checkOne(point, readData)
    } catch (error) {
      if (!isAgentError(error, 'INTEGRITY', 'NOT_FOUND', 'CONFIG')) throw error
      yield { point, what: error.message, slice }
    }
  }
  const inSlices = options.readData === true && slices !== undefined
  if (options.structure !== false) {
    // Those whose data are wanted are opened for that.
    for (const point of points)
      if (!inSlices || !slices.includes(sliceOfPoint(point))) yield* one(point, options.readData === true && !inSlices)
  }
  if (!inSlices) return
  for (const slice of slices) {
    for (const point of points) if (sliceOfPoint(point) === slice) yield* one(point, true, slice)
    await options.onSlice?.(slice)
  }
}
