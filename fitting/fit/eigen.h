/* Eigenvalues of a small symmetric matrix. Internal to fitting/. */
#ifndef TUNELAW_FITTING_FIT_EIGEN_H
#define TUNELAW_FITTING_FIT_EIGEN_H

#include <stddef.h>

#include "fitting/laws/laws.h"

#define EIGEN_LARGEST LAW_PARAMETERS

/* matrix[n][n], destroyed; vectors[k][] is the unit eigenvector of values[k]. Cyclic Jacobi rotations: small
 * eigenvalues of a normal matrix keep an absolute error near the rounding of the largest. */
void eigen_symmetric(size_t n, double matrix[EIGEN_LARGEST][EIGEN_LARGEST], double values[EIGEN_LARGEST],
                     double vectors[EIGEN_LARGEST][EIGEN_LARGEST]);

#endif
