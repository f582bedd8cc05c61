# What the build needs from outside. Everything that is missing is named at once, with the Debian packages that provide it.
set(missing_things "")
set(missing_packages "")
macro(rpo_missing thing package)
    list(APPEND missing_things "${thing}")
    list(APPEND missing_packages "${package}")
endmacro()

# rpo_require(VARIABLE "what it is" debian-package module...): the first module that pkg-config knows; PkgConfig::VARIABLE. Without
# pkg-config nothing can be found, so everything counts as missing.
macro(rpo_require variable thing package)
    if(PKG_CONFIG_FOUND)
        pkg_search_module(${variable} IMPORTED_TARGET ${ARGN})
    endif()
    if(NOT ${variable}_FOUND)
        rpo_missing("${thing}" ${package})
    endif()
endmacro()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(OpenMP COMPONENTS C)
if(NOT OpenMP_C_FOUND)
    rpo_missing("OpenMP for this compiler" libomp-dev)
endif()
find_package(PkgConfig)
if(NOT PKG_CONFIG_FOUND)
    rpo_missing(pkg-config pkg-config)
endif()
# Any CBLAS will do; OpenBLAS built for OpenMP shares its threads with ours.
rpo_require(RPO_CBLAS "a CBLAS" libopenblas-openmp-dev openblas-openmp openblas cblas blis)
rpo_require(RPO_CJSON cJSON libcjson-dev libcjson)
rpo_require(RPO_XXHASH xxHash libxxhash-dev libxxhash)
rpo_require(RPO_ZLIB zlib zlib1g-dev zlib)
if(RPO_TESTS)
    rpo_require(CRITERION "Criterion (RPO_TESTS is ON)" libcriterion-dev criterion)
endif()

# The CUDA sources run on the CPU in tests only.
if(RPO_SIMT)
    include(CheckLanguage)
    check_language(CXX)
    if(CMAKE_CXX_COMPILER)
        enable_language(CXX)
    else()
        rpo_missing("a C++ compiler (RPO_SIMT is ON, as the tests have it by default)" g++)
    endif()
    find_package(Boost COMPONENTS context QUIET)
    if(NOT Boost_CONTEXT_FOUND)
        rpo_missing("Boost.Context (RPO_SIMT is ON, as the tests have it by default)" libboost-context-dev)
    endif()
endif()

if(missing_things)
    string(REPLACE ";" ", " missing_things "${missing_things}")
    string(REPLACE ";" " " missing_packages "${missing_packages}")
    message(FATAL_ERROR "rpo: not found: ${missing_things}; on Debian: apt-get install ${missing_packages}")
endif()

# CUDA: AUTO takes a toolkit that is there, ON insists on one, OFF looks for none. Whether the machine has a GPU is asked
# when programs run, not here.
include(cmake/cuda.cmake)

# The MPI room is not built yet: asking for it is an error rather than a silent no.
if(RPO_MPI STREQUAL "ON")
    message(FATAL_ERROR "rpo: RPO_MPI=ON, but this version has no MPI ranks yet; use AUTO or OFF")
endif()
