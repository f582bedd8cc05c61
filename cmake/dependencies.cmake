# What the build needs from outside. Each failure names the Debian package that provides the thing.
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS C)
find_package(PkgConfig REQUIRED)

# Any CBLAS will do; OpenBLAS built for OpenMP shares its threads with ours.
pkg_search_module(RPO_CBLAS IMPORTED_TARGET openblas-openmp openblas cblas blis)
if(NOT RPO_CBLAS_FOUND)
    message(FATAL_ERROR "rpo: no CBLAS found; on Debian: apt-get install libopenblas-openmp-dev")
endif()
pkg_check_modules(RPO_CJSON IMPORTED_TARGET libcjson)
if(NOT RPO_CJSON_FOUND)
    message(FATAL_ERROR "rpo: cJSON not found; on Debian: apt-get install libcjson-dev")
endif()
pkg_check_modules(RPO_XXHASH IMPORTED_TARGET libxxhash)
if(NOT RPO_XXHASH_FOUND)
    message(FATAL_ERROR "rpo: xxHash not found; on Debian: apt-get install libxxhash-dev")
endif()
pkg_check_modules(RPO_ZLIB IMPORTED_TARGET zlib)
if(NOT RPO_ZLIB_FOUND)
    message(FATAL_ERROR "rpo: zlib not found; on Debian: apt-get install zlib1g-dev")
endif()

# CUDA: AUTO takes a toolkit that is there, ON insists on one, OFF looks for none. Whether the machine has a GPU is asked
# when programs run, not here.
include(cmake/cuda.cmake)

# The CUDA sources run on the CPU in tests only.
if(RPO_SIMT)
    enable_language(CXX)
    find_package(Boost COMPONENTS context QUIET)
    if(NOT Boost_CONTEXT_FOUND)
        message(FATAL_ERROR "rpo: Boost.Context not found (RPO_SIMT is ON, as the tests have it by default); on Debian: "
                            "apt-get install libboost-context-dev")
    endif()
endif()

# The MPI room is not built yet: asking for it is an error rather than a silent no.
if(RPO_MPI STREQUAL "ON")
    message(FATAL_ERROR "rpo: RPO_MPI=ON, but this version has no MPI ranks yet; use AUTO or OFF")
endif()
