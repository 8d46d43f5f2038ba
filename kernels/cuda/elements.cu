/* Operations on plain arrays: sums, the gated MLP, GELU.
 *
 * At full size: 10^9 elements a call. One pass, 16 bytes a thread and access where length and addresses allow, a grid
 * that covers the chip and strides on. Bytes an element of E bytes: add 3E, scale 2E, swiglu forward 3E and backward
 * 5E, gelu forward 2E and backward 3E. */
#include "kernels/cuda/cuda.cuh"

namespace
{

constexpr unsigned THREADS = 256;

/* An array function: y_j[i] = f(x_0[i], ...), element by element, so that outputs may be inputs. */
template <typename T, typename F> __global__ void elementwise(size_t n, F f)
{
    size_t stride = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride)
        f(i);
}

/* f on chunks of vectors where all arrays allow, else on single elements. */
template <typename T, template <typename, int> class F, typename... Arrays>
void run(struct device *device, size_t n, float factor, Arrays... arrays)
{
    constexpr int size = vector<T>::size;
    bool whole = n % size == 0;
    bool addresses[] = {whole_vectors(arrays)...};
    for (bool address : addresses)
        whole = whole && address;
    if (whole) {
        F<T, size> f{factor, arrays...};
        launch(device, elementwise<T, F<T, size>>, blocks_to_stride(device, n / size, THREADS, 16), THREADS, 0,
               n / size, f);
    } else {
        F<T, 1> f{factor, arrays...};
        launch(device, elementwise<T, F<T, 1>>, blocks_to_stride(device, n, THREADS, 16), THREADS, 0, n, f);
    }
}

/* `size` elements of an array at once. */
template <typename T, int size> struct alignas(size * sizeof(T)) chunk {
    T x[size];
};

template <typename T, int size> __device__ inline chunk<T, size> load(const T *x, size_t i)
{
    return reinterpret_cast<const chunk<T, size> *>(x)[i];
}

template <typename T, int size> __device__ inline void store(T *x, size_t i, const chunk<T, size> &c)
{
    reinterpret_cast<chunk<T, size> *>(x)[i] = c;
}

template <typename T, int size> struct add {
    float factor;
    const T *x;
    T *y;
    __device__ void operator()(size_t i) const
    {
        chunk<T, size> a = load<T, size>(x, i), b = load<T, size>(y, i);
        for (int j = 0; j < size; j++)
            b.x[j] = rounded<T>(number(b.x[j]) + number(a.x[j]));
        store<T, size>(y, i, b);
    }
};

template <typename T, int size> struct scale {
    float factor;
    T *x;
    __device__ void operator()(size_t i) const
    {
        chunk<T, size> a = load<T, size>(x, i);
        for (int j = 0; j < size; j++)
            a.x[j] = rounded<T>(number(a.x[j]) * factor);
        store<T, size>(x, i, a);
    }
};

template <typename T, int size> struct swiglu {
    float factor;
    const T *gate, *up;
    T *out;
    __device__ void operator()(size_t i) const
    {
        chunk<T, size> g = load<T, size>(gate, i), u = load<T, size>(up, i);
        for (int j = 0; j < size; j++) {
            float z = number(g.x[j]);
            g.x[j] = rounded<T>(z * number(u.x[j]) / (1.0f + expf(-z)));
        }
        store<T, size>(out, i, g);
    }
};

template <typename T, int size> struct swiglu_gradient {
    float factor;
    const T *gate, *up, *dout;
    T *dgate, *dup;
    __device__ void operator()(size_t i) const
    {
        chunk<T, size> g = load<T, size>(gate, i), u = load<T, size>(up, i), d = load<T, size>(dout, i);
        for (int j = 0; j < size; j++) {
            float z = number(g.x[j]), value = number(u.x[j]), slope = number(d.x[j]);
            float sigmoid = 1.0f / (1.0f + expf(-z));
            g.x[j] = rounded<T>(slope * value * sigmoid * (1.0f + z * (1.0f - sigmoid)));
            u.x[j] = rounded<T>(slope * z * sigmoid);
        }
        store<T, size>(dgate, i, g);
        store<T, size>(dup, i, u);
    }
};

constexpr float ROOT_2_OVER_PI = 0.7978845608028654f, CUBIC = 0.044715f, ROOT_HALF = 0.7071067811865476f,
                DENSITY = 0.3989422804014327f; /* 1 / sqrt(2 pi) */

__device__ inline float tanh_inner(float x)
{
    return ROOT_2_OVER_PI * (x + CUBIC * x * x * x);
}

template <typename T, int size> struct gelu {
    float approximate;
    const T *x;
    T *out;
    __device__ void operator()(size_t i) const
    {
        chunk<T, size> c = load<T, size>(x, i);
        for (int j = 0; j < size; j++) {
            float v = number(c.x[j]);
            float twice = approximate != 0 ? 1.0f + tanhf(tanh_inner(v)) : erfcf(-v * ROOT_HALF);
            c.x[j] = rounded<T>(0.5f * v * twice);
        }
        store<T, size>(out, i, c);
    }
};

template <typename T, int size> struct gelu_gradient {
    float approximate;
    const T *x, *dout;
    T *dx;
    __device__ void operator()(size_t i) const
    {
        chunk<T, size> c = load<T, size>(x, i), d = load<T, size>(dout, i);
        for (int j = 0; j < size; j++) {
            float v = number(c.x[j]), share, slope;
            if (approximate != 0) {
                float t = tanhf(tanh_inner(v));
                share = 0.5f * (1.0f + t);
                slope = 0.5f * (1.0f - t * t) * ROOT_2_OVER_PI * (1.0f + 3.0f * CUBIC * v * v);
            } else {
                share = 0.5f * erfcf(-v * ROOT_HALF);
                slope = DENSITY * expf(-0.5f * v * v);
            }
            c.x[j] = rounded<T>(number(d.x[j]) * (share + v * slope));
        }
        store<T, size>(dx, i, c);
    }
};

} // namespace

void cuda_add(struct device *device, size_t n, const real *x, real *y)
{
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        run<T, add>(device, n, 0.0f, as<T>(x), as<T>(y));
    });
}

void cuda_scale(struct device *device, size_t n, float factor, real *x)
{
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        run<T, scale>(device, n, factor, as<T>(x));
    });
}

void cuda_swiglu_forward(struct device *device, size_t n, const real *gate, const real *up, real *out)
{
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        run<T, swiglu>(device, n, 0.0f, as<T>(gate), as<T>(up), as<T>(out));
    });
}

void cuda_swiglu_backward(struct device *device, size_t n, const real *gate, const real *up, const real *dout,
                          real *dgate, real *dup)
{
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        run<T, swiglu_gradient>(device, n, 0.0f, as<T>(gate), as<T>(up), as<T>(dout), as<T>(dgate), as<T>(dup));
    });
}

void cuda_gelu_forward(struct device *device, size_t n, bool approximate, const real *x, real *out)
{
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        run<T, gelu>(device, n, approximate ? 1.0f : 0.0f, as<T>(x), as<T>(out));
    });
}

void cuda_gelu_backward(struct device *device, size_t n, bool approximate, const real *x, const real *dout, real *dx)
{
    with_storage(device, [&](auto zero) {
        using T = decltype(zero);
        run<T, gelu_gradient>(device, n, approximate ? 1.0f : 0.0f, as<T>(x), as<T>(dout), as<T>(dx));
    });
}
