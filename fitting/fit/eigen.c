/* Fitting: Jacobi's method, for the few by few matrices of parameters. */
#include "fitting/fit/eigen.h"

#include <math.h>

static void rotate(size_t n, double m[EIGEN_LARGEST][EIGEN_LARGEST], double v[EIGEN_LARGEST][EIGEN_LARGEST], size_t p,
                   size_t q)
{
    if (m[p][q] == 0) return;
    double ratio = (m[q][q] - m[p][p]) / (2 * m[p][q]);
    double t = (ratio >= 0 ? 1 : -1) / (fabs(ratio) + sqrt(ratio * ratio + 1));
    double c = 1 / sqrt(t * t + 1), s = t * c;
    for (size_t k = 0; k < n; k++) {
        double a = m[k][p], b = m[k][q];
        m[k][p] = c * a - s * b;
        m[k][q] = s * a + c * b;
    }
    for (size_t k = 0; k < n; k++) {
        double a = m[p][k], b = m[q][k];
        m[p][k] = c * a - s * b;
        m[q][k] = s * a + c * b;
        a = v[p][k], b = v[q][k];
        v[p][k] = c * a - s * b;
        v[q][k] = s * a + c * b;
    }
}

void eigen_symmetric(size_t n, double matrix[EIGEN_LARGEST][EIGEN_LARGEST], double values[EIGEN_LARGEST],
                     double vectors[EIGEN_LARGEST][EIGEN_LARGEST])
{
    enum { SWEEPS = 60 };
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < EIGEN_LARGEST; j++)
            vectors[i][j] = i == j;
    for (int sweep = 0; sweep < SWEEPS; sweep++)
        for (size_t p = 0; p < n; p++)
            for (size_t q = p + 1; q < n; q++)
                rotate(n, matrix, vectors, p, q);
    for (size_t i = 0; i < n; i++)
        values[i] = matrix[i][i];
}
